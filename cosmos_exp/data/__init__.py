"""Training data: readers, inspection, clip windows, and the cache of latents and prompts."""
