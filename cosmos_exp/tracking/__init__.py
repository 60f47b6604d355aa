"""wandb as a mirror of the run folder."""
