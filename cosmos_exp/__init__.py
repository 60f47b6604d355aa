"""cosmos_exp: fine-tune a video world model with LoRA or DoRA, and know what the choices did."""

__version__ = "0.1.0"
