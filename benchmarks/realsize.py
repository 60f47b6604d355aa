"""A whole run at the full size of the 2B model, with random weights, on any machine: `make realsize`.

    python benchmarks/realsize.py [--kinds lora,dora] [--folder DIR] [--tiny]

Writes a diffusers folder: the real transformer (2,059,174,912 parameters, bf16, three shards), the Wan VAE at its own
size, a text encoder of the real width (28 layers of 3,584) with a small vocabulary. Then `cosmos-exp run` over it at
96x160x9: two optimizer steps, generation, scores; and the adapter is loaded with plain diffusers. About 9 GB of disk.
The folder stays in the cache for the next time. --tiny makes the same walk with a small transformer in a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import machine_line, table, write
from diffusers import AutoencoderKLWan, Cosmos2_5_PredictBasePipeline, CosmosTransformer3DModel
from peft.tuners.lora import LoraLayer
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.schema import Model
from cosmos_exp.tabletop.build import SEED, build_scheduler, build_tokenizer, build_transformer

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
TINY = ["model.transformer.num_layers=2", "model.text_channels=256"]
PARAMETERS, LAYERS, SCALE = 2_059_174_912, 280, 2.0


def build(model: Model, target: Path) -> None:
    """Write the folder, part by part, in bf16."""
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=".tmp-"))
    torch.manual_seed(SEED)
    torch.set_default_dtype(torch.bfloat16)
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(work / "tokenizer")
    build_scheduler().save_pretrained(work / "scheduler")
    _text_encoder(len(tokenizer), model).save_pretrained(work / "text_encoder")
    AutoencoderKLWan().save_pretrained(work / "vae")
    transformer = build_transformer(model)
    transformer.save_pretrained(work / "transformer", max_shard_size="1500MB")
    (work / "RANDOM_WEIGHTS").write_text("These weights were drawn from a seed; nothing has been learned.\n")
    os.replace(work, target)


def _text_encoder(vocabulary: int, model: Model) -> Qwen2_5_VLForConditionalGeneration:
    layers, heads = 28, 28
    if model.text_channels < 10_000:  # --tiny
        layers, heads = 2, 4
    width = model.text_channels // layers
    quarter = width // heads // 8
    text = {
        "hidden_size": width,
        "intermediate_size": 256,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 4,
        "vocab_size": vocabulary,
        "max_position_embeddings": 1024,
        "rope_parameters": {
            "rope_type": "default",
            "mrope_section": [quarter, 3 * quarter // 2, 3 * quarter - 3 * quarter // 2],
            "rope_theta": 10000.0,
        },
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": width}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))


def load_plainly(folder: Path, adapter: Path, tiny: bool) -> None:
    """Load the adapter with plain diffusers and check parameters, layers and scale."""
    model = CosmosTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=torch.bfloat16)
    parameters = sum(p.numel() for p in model.parameters())
    pipe = Cosmos2_5_PredictBasePipeline(None, None, model, AutoencoderKLWan(), build_scheduler(), lambda *a, **k: None)
    pipe.load_lora_weights(str(adapter))
    scales = [m.scaling[name] for m in model.modules() if isinstance(m, LoraLayer) for name in m.lora_A]
    layers = 20 if tiny else LAYERS
    if len(scales) != layers or set(scales) != {SCALE} or not (tiny or parameters == PARAMETERS):
        raise SystemExit(f"{adapter}: {parameters:,} parameters, {len(scales)} layers at scales {sorted(set(scales))}")


def timed(*words: str) -> tuple[float, float]:
    """Seconds and peak GiB of a process that runs one step of this script."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, *words])
    _, code, usage = os.wait4(process.pid, 0)
    if code:
        raise SystemExit(f"failed: {' '.join(words)}")
    return time.perf_counter() - began, usage.ru_maxrss / 2**20


def run(kind: str, folder: Path, words: list[str], work: Path) -> list[dict[str, Any]]:
    """One run and the check of its adapter: a row for each stage."""
    run_dir = work / kind
    program = Path(sys.executable).parent / "cosmos-exp"
    words = ["run", *words, f"adapter={kind}", f"model.source={folder}", f"run_dir={run_dir}"]
    subprocess.run([program, *words], check=True)
    stages = json.loads((run_dir / "manifest.json").read_text())["stages"]
    rows = []
    for name, stage in stages.items():
        rows.append({"stage": f"{kind}: {name}", "seconds": stage["seconds"], "peak_gib": stage["peak_memory_gib"]})
    tiny = ["--tiny"] if TINY[0] in words else []
    seconds, peak = timed("--load", str(run_dir / "adapter"), "--folder", str(folder), *tiny)
    shutil.rmtree(run_dir / "checkpoints")
    return [*rows, {"stage": f"{kind}: loaded with plain diffusers", "seconds": seconds, "peak_gib": peak}]


def main() -> int:
    """Build, run, load; print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="lora,dora")
    parser.add_argument("--folder", type=Path, default=None, help="of the model (default: in the cache)")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--build", action="store_true", help="only write the folder")
    parser.add_argument("--load", type=Path, default=None, help="only load this adapter")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    words, name, tiny = list(WORDS), "cosmos-2b-random", []
    if args.tiny:
        words, name, tiny = [*WORDS, *TINY], f"{name}-tiny", ["--tiny"]
    config = compose_config(words)
    folder = args.folder or cache_root(config).absolute() / "models" / name
    if args.build:
        build(config.model, folder)
        return 0
    if args.load:
        load_plainly(folder, args.load, args.tiny)
        return 0
    rows = []
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        seconds, peak = timed("--build", "--folder", str(folder), *tiny)
        rows.append({"stage": "folder written", "seconds": seconds, "peak_gib": peak})
    with tempfile.TemporaryDirectory() as work:
        for kind in args.kinds.split(","):
            rows += run(kind, folder, words, Path(work))
    text = f"{machine_line()}\n\n{table(rows, '.1f')}"
    write(name.replace("-", "_"), "A run at the full size", text, rows, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
