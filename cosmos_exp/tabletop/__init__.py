"""The embedded tabletop world: scene, renderer, data sets, rule judge and model weights.

Other packages reach it only through the import paths in the configuration (`model.builder`, `data.builder`,
`judge.builder`).
"""
