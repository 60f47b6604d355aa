"""Readers: each lists the clips of one folder layout, and every problem it finds. A bad file is reported, never replaced."""
