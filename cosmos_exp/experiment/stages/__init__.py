"""The stages of a run, one file each, in the order prepare, train, generate, evaluate, record."""
