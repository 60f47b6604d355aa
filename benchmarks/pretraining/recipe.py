"""The settings of a pretraining with their command-line options, and the seeds of its clips."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch

from cosmos_exp.config.schema import Model, Transformer
from cosmos_exp.files import atomic_path
from cosmos_exp.tabletop.build import WEIGHTS

# Seeds that no data set uses: training data start at 1,000,000, test scenes at 2,000,000.
CODE_SEEDS, CLIP_SEEDS, VALIDATION_SEEDS, DECODER_SEEDS = 10_000_000, 20_000_000, 30_000_000, 40_000_000
PIXELS = (96, 160)  # height and width of a clip
CONDITION_TIMESTEP = 0.0001  # timestep of conditioning frames


def shipped_settings(z_dim: int = 32) -> Model:
    """The sizes of the trained model, as in conf/model/tabletop.yaml."""
    transformer = Transformer(
        in_channels=z_dim + 1,
        out_channels=z_dim,
        num_attention_heads=4,
        attention_head_dim=64,
        num_layers=5,
        mlp_ratio=4.0,
        text_embed_dim=256,
        adaln_lora_dim=64,
    )
    return Model(transformer=transformer, z_dim=z_dim, text_channels=128)


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
    seed: int = _option(0, "seed of the initial weights and of the decoder's latents")
    # code and clips
    clips: int = _option(9000, "human clips to render")
    shard: int = _option(50, "clips per file, and validation clips")
    code_clips: int = _option(60, "clips of each appearance to fit the code to")
    z_dim: int = _option(32, "latent channels")
    # transformer
    minutes: float = _option(120.0, "training time of this call")
    cooldown: float = _option(0.0, "minutes at the end in which the learning rate falls")
    steps: int = _option(10**9, "maximum number of steps over all calls")
    batch: int = _option(16, "clips per step")
    rate: float = _option(1e-3, "learning rate")
    ema: float = _option(0.998, "decay per step of the averaged weights")
    sigma_shift: float = _option(3.0, "shift of the sampled noise levels towards 1")
    sigma_std: float = _option(1.2, "spread of the sampled noise levels before the shift")
    muon: bool = _option(True, "Muon for the matrices of the blocks")
    bf16: bool = _option(False, "bf16 autocast; 16 times slower on a CPU without avx512_bf16")
    compile: bool = _option(True, "compile blocks with torch.compile")
    every: int = _option(100, "steps between validations")
    # decoder
    decoder_steps: int = _option(4000, "number of steps over all calls")
    decoder_noise: float = _option(0.1, "largest standard deviation of the latents' noise")
    decoder_width: int = _option(128, "channels of the network")
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


def parser(description: str | None) -> argparse.ArgumentParser:
    """The command line: an option for every field of `Recipe`."""
    out = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for setting in fields(Recipe):
        flag = "--" + setting.name.replace("_", "-")
        text = f"{setting.metadata['help']} (default: {setting.default})"
        if isinstance(setting.default, bool):
            out.add_argument(flag, action=argparse.BooleanOptionalAction, default=setting.default, help=text)
        else:
            kind = Path if setting.name == "initial" else type(setting.default)
            out.add_argument(flag, type=kind, default=setting.default, help=text)
    return out


def save_state(path: Path, state: dict[str, object]) -> None:
    """Write a checkpoint atomically."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)
