"""The settings of a pretraining, their command-line options, and the seeds of its clips."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from cosmos_exp.tabletop.build import WEIGHTS

# Seeds that no data set uses: training data start at 1,000,000, test scenes at 2,000,000.
CODE_SEEDS, CLIP_SEEDS, VALIDATION_SEEDS, DECODER_SEEDS = 10_000_000, 20_000_000, 30_000_000, 40_000_000
PIXELS = (96, 160)  # height and width of a clip
CONDITION_TIMESTEP = 0.0001  # timestep of conditioning frames


@dataclass(frozen=True)
class Recipe:
    """The settings; `parser` describes each one."""

    work: Path
    out: Path
    minutes: float
    cooldown: float
    steps: int
    clips: int
    shard: int
    code_clips: int
    batch: int
    lr: float
    ema: float
    sigma_shift: float
    muon: bool
    compile: bool
    every: int
    decoder_steps: int
    decoder_noise: float
    decoder_width: int
    decoder_clips: int
    z_dim: int
    seed: int
    threads: int
    workers: int

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


def parser(description: str | None, stages: tuple[str, ...]) -> argparse.ArgumentParser:
    """The command line. Every option but --stage is a field of `Recipe`."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    work = Path.home() / ".cache" / "cosmos_exp" / "pretrain"
    p.add_argument(
        "--work", type=Path, default=work, help="folder of checkpoints and curves; an existing one is resumed"
    )
    p.add_argument("--out", type=Path, default=WEIGHTS, help="folder that export writes")
    p.add_argument("--stage", default="all", choices=("all", *stages), help="run one stage only")
    p.add_argument("--threads", type=int, default=2, help="CPU threads")
    p.add_argument("--workers", type=int, default=2, help="processes that render; 0: this process")
    p.add_argument("--seed", type=int, default=0, help="seed of the initial weights and of the decoder's latents")
    _add_data_options(p.add_argument_group("code and clips"))
    _add_transformer_options(p.add_argument_group("transformer"))
    _add_decoder_options(p.add_argument_group("decoder"))
    return p


def _add_data_options(p: argparse._ArgumentGroup) -> None:
    p.add_argument("--clips", type=int, default=9000, help="human clips to render")
    p.add_argument("--shard", type=int, default=50, help="clips per file, and validation clips")
    p.add_argument("--code-clips", type=int, default=60, help="clips of each appearance to fit the code to")
    p.add_argument("--z-dim", type=int, default=32, help="latent channels")


def _add_transformer_options(p: argparse._ArgumentGroup) -> None:
    p.add_argument("--minutes", type=float, default=120, help="training time of this call")
    p.add_argument("--cooldown", type=float, default=0, help="minutes at the end in which the learning rate falls")
    p.add_argument("--steps", type=int, default=10**9, help="maximum number of steps over all calls")
    p.add_argument("--batch", type=int, default=16, help="clips per step")
    p.add_argument("--rate", type=float, default=1e-3, dest="lr", metavar="LR", help="learning rate")
    p.add_argument("--ema", type=float, default=0.998, help="decay per step of the averaged weights")
    p.add_argument("--sigma-shift", type=float, default=3.0, help="shift of the sampled noise levels towards 1")
    p.add_argument(
        "--muon", action=argparse.BooleanOptionalAction, default=True, help="Muon for the matrices of the blocks"
    )
    p.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=True, help="compile blocks with torch.compile"
    )
    p.add_argument("--every", type=int, default=100, help="steps between validations")


def _add_decoder_options(p: argparse._ArgumentGroup) -> None:
    p.add_argument("--decoder-steps", type=int, default=4000, help="number of steps over all calls")
    p.add_argument("--decoder-noise", type=float, default=0.1, help="largest standard deviation of the latents' noise")
    p.add_argument("--decoder-width", type=int, default=128, help="channels of the network")
    p.add_argument("--decoder-clips", type=int, default=150, help="clips of each appearance")
