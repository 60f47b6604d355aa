"""One run: its folder, checks, processes and stages."""
