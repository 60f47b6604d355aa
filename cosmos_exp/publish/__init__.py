"""Finished runs as folders for the Hugging Face hub: adapter, model card, records without private text; and their upload."""
