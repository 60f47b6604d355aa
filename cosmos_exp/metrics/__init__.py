"""Measures of finished videos: geometric consistency (`geometry`), judges' scores (`judges`), and scores.jsonl (`score`)."""
