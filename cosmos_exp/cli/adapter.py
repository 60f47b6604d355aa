"""`cosmos-exp adapter`: describe an adapter, cut it to a lower rank, merge it into its base model, or exchange it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import add_command, existing_files, writable_folder
from cosmos_exp.errors import UserError
from cosmos_exp.text import one_line

if TYPE_CHECKING:
    from cosmos_exp.config.adapter_file import AdapterFile
    from cosmos_exp.files import JsonObject
    from cosmos_exp.world.model_folder import ModelFolder

HELP = "describe an adapter, cut it to a lower rank, merge it into its base model, or exchange it with other code"
EPILOG = """examples:
  cosmos-exp adapter info outputs/sweeps/rank/lora-r32
  cosmos-exp adapter truncate outputs/sweeps/rank/lora-r32 --rank 2,4,8,16
  cosmos-exp adapter merge outputs/sweeps/rank/dora-r8 --out merged
  cosmos-exp adapter export outputs/sweeps/rank/lora-r32 --format cosmos-predict2.5 --out lora.pt

exit codes: 0 done, 2 wrong arguments, or not an adapter"""
INFO_EPILOG = """examples:
  cosmos-exp adapter info outputs/sweeps/rank/lora-r32
  cosmos-exp adapter info pytorch_lora_weights.safetensors --json

Energy is the sum of squared singular values of the update s B A. Needs no model."""
TRUNCATE_EPILOG = """examples:
  cosmos-exp adapter truncate outputs/sweeps/rank/lora-r32 --rank 2,4,8,16      writes lora-r32/adapter-r2 …
  cosmos-exp adapter truncate adapter/pytorch_lora_weights.safetensors --energy 0.95 --out cut

The scale is kept. For DoRA the direction is cut and the magnitude kept. Each folder loads in plain diffusers, also with
a rank for each layer: pipe.load_lora_weights("lora-r32/adapter-r2"). Needs no model."""
MERGE_EPILOG = """examples:
  cosmos-exp adapter merge outputs/sweeps/rank/dora-r8 --out merged
  cosmos-exp adapter merge my_adapter/ --model models/Cosmos-Predict2.5-2B --out merged --dtype float32

Sums are computed in fp32 and stored in the base's precision; the command reports what the rounding costs. Biases
(adapter.bias=true) cannot be merged: diffusers' transformer has none. An adapter of another transformer is refused."""
EXPORT_EPILOG = """examples:
  cosmos-exp adapter export outputs/sweeps/rank/lora-r32 --format cosmos-predict2.5 --out lora.pt

The file is for adapter_checkpoint_paths of NVIDIA's code (nvidia-cosmos/cosmos-predict2.5). Rank, alpha, target modules and
DoRA are keys of its configuration, which the command prints. Values are not changed."""
IMPORT_EPILOG = """examples:
  cosmos-exp adapter import model_ema_bf16.pt --format cosmos-predict2.5 --alpha 32 --out imported

The checkpoint of a LoRA training with NVIDIA's code, or a file of `adapter export`. Such files do not record alpha. The new
folder loads in plain diffusers: pipe.load_lora_weights("imported")."""
ASSUMED = "note: such a file does not record alpha; assumed alpha = rank (set it with --alpha)"
LEGEND = """norm: Frobenius norm of the update s B A, all layers of a type together. energy_at_rank: share of its energy (squared
norm) that the best approximation of a rank keeps. rank_for_energy: lowest and highest rank of a layer that keeps 95 %.
effective_rank: mean (Roy and Vetterli 2007). Of a DoRA the spectrum is the direction's, without the magnitudes."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    help = "kind, rank, alpha, scale, training, and the spectrum of its update"
    info = add_command(actions, "info", describe, help, INFO_EPILOG)
    info.add_argument("--json", action="store_true", help="print everything as JSON, with all singular values")

    help = "write the best approximation of each layer's update at lower ranks"
    cut = add_command(actions, "truncate", truncate, help, TRUNCATE_EPILOG)
    cut.add_argument(
        "--rank", metavar="N,…", type=integers, default=[], help="ranks, one file each; at most the adapter's own"
    )
    help = "fractions of the energy to keep; each layer gets the smallest rank that does"
    cut.add_argument("--energy", metavar="E,…", type=numbers, default=[], help=help)
    cut.add_argument("--out", metavar="DIR", help="folder of the new folders (default: beside the source)")

    help = "write a diffusers folder of the base model with the adapter merged into its transformer"
    merger = add_command(actions, "merge", merge, help, MERGE_EPILOG)
    merger.add_argument("--out", required=True, metavar="DIR", help="the new folder")
    help = "the base model (default: that of the run or of the file's record)"
    merger.add_argument("--model", metavar="FOLDER", help=help)
    help = "precision of the transformer (default: as the base stores it)"
    merger.add_argument("--dtype", choices=["float32", "bfloat16"], help=help)

    export = add_command(actions, "export", export_file, "write an adapter for other code", EXPORT_EPILOG)
    importer = add_command(
        actions, "import", import_file, "write an adapter of other code in diffusers' format", IMPORT_EPILOG
    )
    for action in (export, importer):
        action.add_argument("--format", required=True, choices=["cosmos-predict2.5"], help="the other code")
        action.add_argument("--out", required=True, metavar="PATH", help="the new file; of `import` its folder")
    for action in (info, cut, merger, export, importer):
        action.add_argument("source", metavar="RUN_OR_FILE", help="an adapter file, the folder of one, or a run folder")
        if action is not info:
            help = "alpha of a file that does not record it (default: its rank, as diffusers assumes)"
            action.add_argument("--alpha", type=float, help=help)


def _file(args: argparse.Namespace) -> Path:
    """The adapter file of the command line."""
    from cosmos_exp.config.adapter_file import find_adapter

    return find_adapter(Path(args.source).expanduser())


def describe(args: argparse.Namespace) -> int:
    """Print what the adapter is, with a table of its spectrum. Returns the exit code."""
    import pandas

    from cosmos_exp.report.adapter_info import describe_adapter

    described = describe_adapter(_file(args))
    if args.json:
        print(json.dumps(described, indent=2))
        return 0
    spectrum = described.pop("spectrum", None)
    described.pop("by_layer", None)
    for key, value in (described | described.pop("record")).items():
        print(f"{key:16} {one_line(json.dumps(value, ensure_ascii=False)).strip('[]')}")
    if spectrum is None:
        return 0
    table = pandas.json_normalize(list(spectrum.values())).set_index(pandas.Index(spectrum))
    print(table.to_string(float_format="%.3g", line_width=120))
    print(LEGEND)
    return 0


def truncate(args: argparse.Namespace) -> int:
    """Write one folder per rank and energy. Returns the exit code."""
    from cosmos_exp.config.adapter_file import read_adapter
    from cosmos_exp.run_folder import ADAPTER_FILE
    from cosmos_exp.world.adapter_truncation import check_cut, truncate_adapter

    if not args.rank and not args.energy:
        raise UserError(
            "--rank, --energy: neither is given. Give ranks (--rank 2,4,8) or the energy to keep (--energy 0.95)."
        )
    file = _file(args)
    adapter = read_adapter(file, args.alpha)
    cuts: JsonObject = {f"r{rank}": {"rank": rank} for rank in args.rank}
    cuts |= {f"e{energy:g}": {"energy": energy} for energy in args.energy}
    for cut in cuts.values():  # all before the first is written
        check_cut(adapter, **cut)
    if not adapter.alpha_recorded and args.alpha is None:
        print(ASSUMED)
    source = file.absolute().with_suffix("")
    if file.name == ADAPTER_FILE:  # the name that diffusers expects: the folder's says more
        source = source.parent
    folder = writable_folder(args.out) if args.out else source.parent
    for ending, cut in cuts.items():
        new = truncate_adapter(file, folder / f"{source.name}-{ending}", **cut, alpha=args.alpha)
        adapter = read_adapter(new)
        kept, size = adapter.record["truncated"]["kept_energy"], new.stat().st_size / 2**20
        print(f"{new.parent}: rank {span(adapter.ranks.values())}, {kept:.2%} of the energy, {size:.2f} MiB")
    return 0


def merge(args: argparse.Namespace) -> int:
    """Write the merged model. Returns the exit code."""
    import torch

    from cosmos_exp.config.adapter_file import open_adapter
    from cosmos_exp.world.adapter_merging import merge_adapter

    file, out = _file(args), writable_folder(args.out)
    adapter = open_adapter(file, args.alpha)
    base = _base_model(adapter, args.model)
    dtype = getattr(torch, args.dtype) if args.dtype else None
    merged = merge_adapter(file, base, out, dtype, args.alpha)
    print(f"{out}: {base.path} with {merged['layers']} layers merged, {merged['dtype']}")
    if not adapter.record.get("fingerprints"):
        print(f"note: {file} does not record its base model, so that it was not checked")
    if merged["rounding"] > 0:
        print(
            f"note: rounding the merged weights costs {merged['rounding']:.1%} of the update; --dtype float32 is exact"
        )
    if not (out / "model_index.json").is_file():
        print("note: the base has no model_index.json; plain diffusers loads OUT/transformer, not OUT as a pipeline")
    return 0


def export_file(args: argparse.Namespace) -> int:
    """Write the file for other code and print the keys that belong to it. Returns the exit code."""
    from cosmos_exp.world.adapter_exchange import export_adapter

    out = Path(args.out).expanduser()
    if out.exists():
        raise UserError(f"--out {out}: exists already. Choose a new file.")
    writable_folder(str(out.parent))
    options = export_adapter(_file(args), out, args.alpha)
    print("\n  ".join([f"{out}: load it with these keys of the configuration:", *options]))
    return 0


def import_file(args: argparse.Namespace) -> int:
    """Write the adapter in diffusers' format. Returns the exit code."""
    from cosmos_exp.config.adapter_file import read_adapter
    from cosmos_exp.run_folder import ADAPTER_FILE
    from cosmos_exp.world.adapter_exchange import import_adapter

    file, out = existing_files([args.source])[0], writable_folder(args.out)
    if (out / ADAPTER_FILE).exists():
        raise UserError(f"--out {out}: holds an adapter already. Choose a new folder.")
    adapter = read_adapter(import_adapter(file, out, args.alpha))
    print(f"{adapter.file}: {adapter.kind}, rank {span(adapter.ranks.values())}, {len(adapter.layers)} layers")
    if args.alpha is None:
        print(ASSUMED)
    return 0


def _base_model(adapter: AdapterFile, folder: str | None) -> ModelFolder:
    """The model that an adapter was trained on: `folder`, else the run's, else that of the file's record.

    Raises:
        UserError: none of them is known.
    """
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.config.record import load_config
    from cosmos_exp.world.model_folder import ensure_model

    source = adapter.record.get("base_model")
    run = adapter.file.absolute().parent.parent / "config.yaml"
    config = compose_config([])
    if folder:
        config = config.updated({"model.source": str(Path(folder).expanduser().absolute())})
    elif run.is_file():
        config = load_config(run)
    elif source:
        config = config.updated({"model.source": str(source), "model.revision": adapter.record.get("revision")})
    else:
        raise UserError(f"{adapter.file}: does not record its base model. Give it with --model FOLDER.")
    return ensure_model(config)


def span(values: Collection[float]) -> str:
    """`8`, or `2-8` for different values."""
    return "-".join(dict.fromkeys((f"{min(values):g}", f"{max(values):g}")))


def integers(text: str) -> list[int]:
    """The numbers of a list that is separated by commas."""
    return list(map(int, text.split(",")))


def numbers(text: str) -> list[float]:
    """The numbers of a list that is separated by commas."""
    return list(map(float, text.split(",")))
