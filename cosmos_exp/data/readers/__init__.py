"""Readers: from a folder on disk to clips and test pairs, one file per layout."""
