"""Tables, figures and pages from run folders. Imports no torch."""
