"""The run folder: the paths in it, its lock, and what its records must hold."""

from cosmos_exp.run_folder.folder import ADAPTER_FILE, ADAPTER_NAME, REFERENCES, SWEEP_FILE, RunFolder, in_use

__all__ = ["ADAPTER_FILE", "ADAPTER_NAME", "REFERENCES", "SWEEP_FILE", "RunFolder", "in_use"]
