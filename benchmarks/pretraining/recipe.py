"""The settings of a pretraining with their command-line options, and the seeds of its clips."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.schema import Model
from cosmos_exp.files import atomic_path
from cosmos_exp.tabletop.build import WEIGHTS

# Seeds that no data set uses: training data start at 1,000,000, test scenes at 2,000,000.
CODE_SEEDS, CLIP_SEEDS, VALIDATION_SEEDS, DECODER_SEEDS = 10_000_000, 20_000_000, 30_000_000, 40_000_000
PIXELS = (96, 160)  # height and width of a clip
CONDITION_TIMESTEP = 0.0001  # timestep of conditioning frames
SEED = 0  # of the initial weights and of the decoder's latents


@cache
def shipped_settings() -> Model:
    """The sizes of the trained model."""
    return compose_config(["model=tabletop"]).model


def _option(default: object, text: str) -> object:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Recipe:
    """The settings. Each is an option of the command line, named with dashes."""

    work: Path = _option(  # noqa: RUF009
        Path.home() / ".cache" / "cosmos_exp" / "pretrain",
        "folder of checkpoints and curves; an existing one is resumed",
    )
    out: Path = _option(WEIGHTS, "folder that export writes")  # noqa: RUF009
    initial: Path | None = _option(None, "diffusers folder to continue from")  # noqa: RUF009
    threads: int = _option(2, "CPU threads")
    workers: int = _option(2, "processes that render; 0: this process")
    # code and clips
    clips: int = _option(9000, "human clips to render")
    shard: int = _option(50, "clips per file, and validation clips")
    code_clips: int = _option(60, "clips of each appearance to fit the code to")
    # transformer
    minutes: float = _option(120.0, "training time of this call")
    cooldown: float = _option(0.0, "minutes at the end in which the learning rate falls")
    steps: int = _option(10**9, "maximum number of steps over all calls")
    batch: int = _option(16, "clips per step")
    rate: float = _option(1e-3, "learning rate")
    sigma_shift: float = _option(3.0, "shift of the sampled noise levels towards 1")
    sigma_std: float = _option(1.2, "spread of the sampled noise levels before the shift")
    bf16: bool = _option(False, "bf16 autocast; 16 times slower on a CPU without avx512_bf16")
    compile: bool = _option(True, "compile blocks with torch.compile")
    every: int = _option(100, "steps between validations")
    # decoder
    decoder_steps: int = _option(4000, "number of steps over all calls")
    decoder_noise: float = _option(0.1, "largest standard deviation of the latents' noise")
    decoder_clips: int = _option(150, "clips of each appearance")

    @property
    def frozen(self) -> Path:
        """Folder of the parts that are not trained: text encoder, tokenizer and scheduler."""
        return self.work / "frozen"

    @property
    def clip_folder(self) -> Path:
        """Folder of the rendered clips' latents."""
        return self.work / "clips"

    @property
    def transformer_checkpoint(self) -> Path:
        """State of the transformer's training."""
        return self.work / "transformer.pt"

    @property
    def decoder_checkpoint(self) -> Path:
        """State of the decoder's training."""
        return self.work / "decoder.pt"


def save_state(path: Path, state: dict[str, object]) -> None:
    """Write a checkpoint atomically."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)
