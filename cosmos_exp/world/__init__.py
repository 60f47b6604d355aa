"""The frozen world model: its components, the flow it was trained with, and the adapter put into it."""
