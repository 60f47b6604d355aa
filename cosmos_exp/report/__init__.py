"""Statistics and tables from run folders alone; imports no torch."""
