"""Training: which samples a step sees, the loop, its checks and its checkpoints."""
