"""`cosmos-exp adapter`: describe an adapter, cut it to a lower rank, merge it into its base model, or exchange it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import existing_files, writable_folder
from cosmos_exp.errors import UserError

if TYPE_CHECKING:
    from cosmos_exp.config.adapter_file import AdapterFile
    from cosmos_exp.world.model_folder import ModelFolder

HELP = "describe an adapter, cut it to a lower rank, merge it into its base model, or exchange it with other code"
SOURCE = "an adapter file, the folder of one, or a run folder"
ALPHA = "alpha of a file that does not record it (default: its rank, as diffusers assumes)"
EPILOG = """examples:
  cosmos-exp adapter info outputs/sweeps/rank/lora-r32
  cosmos-exp adapter truncate outputs/sweeps/rank/lora-r32 --rank 2,4,8,16
  cosmos-exp adapter merge outputs/sweeps/rank/dora-r8 --out merged
  cosmos-exp adapter export outputs/sweeps/rank/lora-r32 --format cosmos-predict2.5 --out lora.pt

exit codes: 0 done, 2 wrong arguments, or not an adapter"""
FORMATS = ["cosmos-predict2.5"]
EXPORT_EPILOG = """examples:
  cosmos-exp adapter export outputs/sweeps/rank/lora-r32 --format cosmos-predict2.5 --out lora.pt

The file is for adapter_checkpoint_paths of NVIDIA's code (nvidia-cosmos/cosmos-predict2.5). Rank, alpha, target modules and
DoRA are keys of its configuration, which the command prints. Values are not changed."""
IMPORT_EPILOG = """examples:
  cosmos-exp adapter import model_ema_bf16.pt --format cosmos-predict2.5 --alpha 32 --out imported

The checkpoint of a LoRA training with NVIDIA's code, or a file of `adapter export`. Such files do not record alpha. The new
folder loads in plain diffusers: pipe.load_lora_weights("imported")."""
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


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command with its actions."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser("adapter", help=HELP, description=HELP, epilog=EPILOG, formatter_class=raw)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], help: str, epilog: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=help, description=help, epilog=epilog, formatter_class=raw)
        action.add_argument("source", metavar="RUN_OR_FILE", help=SOURCE)
        action.set_defaults(run=run)
        return action

    help = "kind, rank, alpha, scale, what it was trained on, and the spectrum of its update"
    info = add("info", describe, help, INFO_EPILOG)
    info.add_argument("--json", action="store_true", help="print everything as JSON, with all singular values")

    cut = add(
        "truncate", truncate, "write the best approximation of each layer's update at lower ranks", TRUNCATE_EPILOG
    )
    cut.add_argument("--rank", metavar="N,…", help="ranks, one file each; at most the adapter's own")
    help = "fractions of the energy to keep; each layer gets the smallest rank that does"
    cut.add_argument("--energy", metavar="E,…", help=help)
    cut.add_argument("--out", metavar="DIR", help="folder of the new folders (default: beside the source)")
    cut.add_argument("--alpha", type=float, help=ALPHA)

    help = "write a diffusers folder of the base model with the adapter merged into its transformer"
    merger = add("merge", merge, help, MERGE_EPILOG)
    merger.add_argument("--out", required=True, metavar="DIR", help="the new folder")
    help = "the base model (default: that of the run or of the file's record)"
    merger.add_argument("--model", metavar="FOLDER", help=help)
    help = "precision of the transformer (default: as the base stores it)"
    merger.add_argument("--dtype", choices=["float32", "bfloat16"], help=help)
    help = "link to the base's other components instead of copying them"
    merger.add_argument("--link", action="store_true", help=help)
    merger.add_argument("--alpha", type=float, help=ALPHA)

    export = add("export", export_file, "write an adapter for other code", EXPORT_EPILOG)
    export.add_argument("--format", required=True, choices=FORMATS, help="the code that it is for")
    export.add_argument("--out", required=True, metavar="FILE", help="the new file")
    export.add_argument("--alpha", type=float, help=ALPHA)

    importer = add("import", import_file, "write an adapter of other code in diffusers' format", IMPORT_EPILOG)
    importer.add_argument("--format", required=True, choices=FORMATS, help="the code that it comes from")
    importer.add_argument("--out", required=True, metavar="DIR", help="folder of the new file")
    importer.add_argument("--alpha", type=float, help="alpha of its training (default: its rank)")


def _file(args: argparse.Namespace) -> Path:
    """The adapter file of the command line."""
    from cosmos_exp.config.adapter_file import find_adapter

    return find_adapter(Path(args.source).expanduser())


def describe(args: argparse.Namespace) -> int:
    """Print what the adapter is. Returns the exit code."""
    import json

    from cosmos_exp.cli.adapter_table import info_text
    from cosmos_exp.report.adapter_info import describe_adapter

    description = describe_adapter(_file(args))
    text = info_text(description)
    if args.json:
        text = json.dumps(description, indent=2)
    print(text)
    return 0


def truncate(args: argparse.Namespace) -> int:
    """Write one folder per rank and energy. Returns the exit code."""
    from cosmos_exp.config.adapter_file import read_adapter
    from cosmos_exp.world.adapter_truncation import check_energy, check_rank, truncate_adapter, truncate_to_energy

    ranks, energies = _numbers("--rank", args.rank, int), _numbers("--energy", args.energy, float)
    if not ranks and not energies:
        raise UserError(
            "--rank, --energy: neither is given. Give the ranks (--rank 2,4,8) or the energy to keep (--energy 0.95)."
        )
    file = _file(args)
    adapter = read_adapter(file, args.alpha)
    for rank in ranks:  # all before the first is written
        check_rank(adapter, rank)
    for energy in energies:
        check_energy(energy)
    if not adapter.alpha_recorded and args.alpha is None:
        print(f"note: {file} does not record alpha; assumed alpha = rank (set it with --alpha)")
    for rank in ranks:
        _print_truncated(truncate_adapter(file, _beside(file, f"r{rank}", args.out), rank, alpha=args.alpha))
    for energy in energies:
        _print_truncated(truncate_to_energy(file, _beside(file, f"e{energy:g}", args.out), energy, alpha=args.alpha))
    return 0


def merge(args: argparse.Namespace) -> int:
    """Write the merged model. Returns the exit code."""
    import torch

    from cosmos_exp.config.adapter_file import read_adapter
    from cosmos_exp.world.adapter_merging import merge_adapter

    file = _file(args)
    adapter = read_adapter(file, args.alpha)
    base = _base_model(adapter, args.model)
    dtype = None
    if args.dtype:
        dtype = getattr(torch, args.dtype)
    out = writable_folder(args.out)
    merged = merge_adapter(file, base, out, dtype, args.link, args.alpha)
    print(f"{out}: {base.path} with {merged.layers} layers merged, {' and '.join(merged.dtypes)}")
    if not adapter.record.get("fingerprints"):
        print(f"note: {file} does not record its base model, so that it was not checked")
    if merged.rounding > 0:
        print(f"note: rounding the merged weights costs {merged.rounding:.1%} of the update; --dtype float32 is exact")
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
    exported = export_adapter(_file(args), out, args.alpha)
    print(f"{out}: load it with these keys of the configuration:")
    for option in exported.options:
        print(f"  {option}")
    return 0


def import_file(args: argparse.Namespace) -> int:
    """Write the adapter in diffusers' format. Returns the exit code."""
    from cosmos_exp.cli.adapter_table import KINDS
    from cosmos_exp.config.adapter_file import read_adapter
    from cosmos_exp.run_folder import ADAPTER_FILE
    from cosmos_exp.world.adapter_exchange import import_adapter

    file, out = existing_files([args.source])[0], writable_folder(args.out)
    if (out / ADAPTER_FILE).exists():
        raise UserError(f"--out {out}: holds an adapter already. Choose a new folder.")
    adapter = read_adapter(import_adapter(file, out, args.alpha))
    rank = max(adapter.ranks.values())
    print(f"{adapter.file}: {KINDS[adapter.kind]}, rank {rank}, {len(adapter.layers)} layers")
    if args.alpha is None:
        print("note: such a file does not record alpha; assumed alpha = rank (set it with --alpha)")
    return 0


def _base_model(adapter: AdapterFile, folder: str | None) -> ModelFolder:
    """The model that an adapter was trained on: `folder`, else the run's, else that of the file's record.

    Raises:
        UserError: none of them is known.
    """
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.config.paths import cache_root
    from cosmos_exp.config.record import load_config
    from cosmos_exp.world.model_folder import ensure_model

    source = adapter.record.get("base_model")
    run = adapter.file.absolute().parent.parent / "config.yaml"
    config = compose_config([])
    if folder:
        config = config.updated({"model.source": str(Path(folder).expanduser().absolute())})
    elif run.is_file():
        config = load_config(run)
    elif source and source != config.model.source:
        config = config.updated({"model.source": str(source), "model.revision": adapter.record.get("revision")})
    elif not source:
        raise UserError(f"{adapter.file}: does not record its base model. Give it with --model FOLDER.")
    return ensure_model(config.model, cache_root(config))


def _beside(file: Path, ending: str, out: str | None) -> Path:
    """The folder of a truncated adapter: <name>-<ending> beside the source, or in `out`.

    The name is that of the file, or that of its folder if the file has the name that diffusers expects.
    """
    from cosmos_exp.run_folder import ADAPTER_FILE

    source = file.absolute().with_suffix("")
    if file.name == ADAPTER_FILE:
        source = source.parent
    parent = source.parent
    if out:
        parent = writable_folder(out)
    return parent / f"{source.name}-{ending}"


def _print_truncated(file: Path) -> None:
    from cosmos_exp.cli.adapter_table import span
    from cosmos_exp.config.adapter_file import read_adapter

    adapter = read_adapter(file)
    kept, size = adapter.record["truncated"]["kept_energy"], file.stat().st_size / 2**20
    print(f"{file.parent}: rank {span(adapter.ranks.values())}, {kept:.2%} of the energy, {size:.2f} MiB")


def _numbers(option: str, text: str | None, kind: type) -> list:
    """The numbers of a list that is separated by commas, each once."""
    if not text:
        return []
    try:
        return list(dict.fromkeys(map(kind, text.split(","))))
    except ValueError as error:
        raise UserError(
            f"{option} {text}: not numbers separated by commas. Write e.g. --rank 2,4,8 or --energy 0.9,0.95."
        ) from error
