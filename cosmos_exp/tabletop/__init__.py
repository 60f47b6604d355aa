"""The embedded tabletop world: scene, renderer, data sets, rule judge and model weights.

It is a plugin: no other package imports it, and `tabletop/plugin.py` registers the names that a configuration gives.
"""
