"""Test videos from first frames and prompts, with the pipeline that diffusers ships."""
