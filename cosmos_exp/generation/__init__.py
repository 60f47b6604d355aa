"""Test videos from prompts and conditioning frames, with diffusers' pipeline."""
