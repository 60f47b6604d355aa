"""Training of the embedded model's weights, one module per stage. The command is cosmos_exp.tabletop.pretrain."""
