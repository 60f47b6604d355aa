"""The statistics of an ablation. Scenes and training runs are crossed random effects; noises lie within prompts."""
