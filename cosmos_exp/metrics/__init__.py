"""Measures of finished videos: geometry (Sampson error) and the judge's scores."""
