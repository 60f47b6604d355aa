"""Judges: models, servers or rules that score a video from 1 to 5 under a rubric."""
