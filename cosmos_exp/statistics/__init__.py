"""The statistics of an ablation. The unit is the prompt; seeds are nested in prompts; runs are paired by prompt and seed."""
