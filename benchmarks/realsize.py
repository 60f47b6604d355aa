"""A whole run at the full size of the 2B model, with random weights, on any machine: `make realsize`.

    python benchmarks/realsize.py

Writes a diffusers folder: the real transformer (2,059,174,912 parameters, bf16, three shards), the Wan VAE at its own
size, a text encoder of the real width (28 layers of 3,584) with a small vocabulary. Then `cosmos-exp run` over it at
96x160x9: two optimizer steps, generation, scores; and the adapter is loaded with plain diffusers. About 9 GB of disk.
The folder stays in the cache for the next time.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from common import machine_line, table, write
from diffusers import AutoencoderKLWan, Cosmos2_5_PredictBasePipeline, CosmosTransformer3DModel
from peft.tuners.lora import LoraLayer

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.schema import Model
from cosmos_exp.files import atomic_folder
from cosmos_exp.tabletop.build import SEED, build_scheduler, build_text_encoder, build_tokenizer, build_transformer
from cosmos_exp.world.model_folder import RANDOM_MARK

WORDS = [
    "model=cosmos_predict25_2b",
    "data=tabletop",
    "model.guardrail=off",
    "model.max_first_loss=null",
    "data.height=96",
    "data.width=160",
    "data.num_frames=9",
    "data.fps=8",
    "data.train_clips=3",
    "data.validation_videos=1",
    "data.test_pairs=1",
    "data.windows_per_video=1",
    "hardware=cpu",
    "hardware.mixed_precision=bf16",
    "training.global_batch_size=1",
    "training.max_steps=2",
    "training.schedule.warmup_samples=0",
    "training.validation.sigmas=[0.5]",
    "generation.num_steps=2",
    "generation.seeds=[0]",
    "generation.max_prompts=1",
    "tracking=none",
    "rank=8",
    "alpha=16",
]
PARAMETERS, LAYERS, SCALE = 2_059_174_912, 280, 2.0


def build(model: Model, target: Path) -> None:
    """Write the folder, part by part, in bf16."""
    torch.manual_seed(SEED)
    torch.set_default_dtype(torch.bfloat16)
    with atomic_folder(target) as work:
        tokenizer = build_tokenizer()
        tokenizer.save_pretrained(work / "tokenizer")
        build_scheduler().save_pretrained(work / "scheduler")
        text_encoder = build_text_encoder(len(tokenizer), model.text_channels, layers=28, heads=28, inner=256)
        text_encoder.save_pretrained(work / "text_encoder")
        AutoencoderKLWan().save_pretrained(work / "vae")
        build_transformer(model).save_pretrained(work / "transformer", max_shard_size="1500MB")
        (work / RANDOM_MARK).write_text("These weights were drawn from a seed; nothing has been learned.\n")
    torch.set_default_dtype(torch.float32)


def load_plainly(folder: Path, adapter: Path) -> None:
    """Load the adapter with plain diffusers and check parameters, layers and scale."""
    model = CosmosTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=torch.bfloat16)
    parameters = sum(p.numel() for p in model.parameters())
    pipe = Cosmos2_5_PredictBasePipeline(None, None, model, AutoencoderKLWan(), build_scheduler(), lambda *a, **k: None)
    pipe.load_lora_weights(str(adapter))
    scales = [m.scaling[name] for m in model.modules() if isinstance(m, LoraLayer) for name in m.lora_A]
    if len(scales) != LAYERS or set(scales) != {SCALE} or parameters != PARAMETERS:
        raise SystemExit(f"{adapter}: {parameters:,} parameters, {len(scales)} layers at scales {sorted(set(scales))}")


def main() -> None:
    """Build, run, load; print and write the table."""
    folder = cache_root(compose_config(WORDS)).absolute() / "models" / "cosmos-2b-random"
    if not folder.is_dir():
        build(compose_config(WORDS).model, folder)
        gc.collect()
    rows = []
    for kind in ("lora", "dora"):
        with tempfile.TemporaryDirectory() as work:
            run_dir = Path(work, kind)
            words = ["run", *WORDS, f"adapter={kind}", f"model.source={folder}", f"run_dir={run_dir}"]
            subprocess.run([Path(sys.executable).parent / "cosmos-exp", *words], check=True)
            for name, stage in json.loads((run_dir / "manifest.json").read_text())["stages"].items():
                took = {"seconds": stage["seconds"], "peak_gib": stage["peak_memory_gib"]}
                rows.append({"stage": f"{kind}: {name}", **took})
            load_plainly(folder, run_dir / "adapter")
    text = f"{machine_line()}\n\n{table(rows, '.1f')}"
    write("cosmos_2b_random", "A run at the full size", text, rows)


if __name__ == "__main__":
    main()
