"""Measures of pixels and motion that need no weights: against the recording of the same scene, and of the video alone."""
