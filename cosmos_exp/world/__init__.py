"""The frozen world model: its components, its forward pass and flow, and the adapter in it."""
