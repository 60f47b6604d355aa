"""`cosmos-exp data check DIR`: what a run would train on, and every bad file. `data make`: render a set. `data encode`: fill the cache."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import add_command, add_overrides, add_shards, writable_folder
from cosmos_exp.config.registry import DATA_MAKERS
from cosmos_exp.errors import UserError
from cosmos_exp.text import one_line, printable

if TYPE_CHECKING:
    from cosmos_exp.config.schema import Data
    from cosmos_exp.data.inspection import Inspection

SHOWN = 3  # clips that are described
HELP = "check a folder of training data, encode it, or render a data set"
EPILOG = """examples:
  cosmos-exp data check my_videos                         every bad file
  cosmos-exp data encode experiment=paper --shards 8      latents and prompts into the cache, before a sweep
  cosmos-exp data make tabletop --out clips               32 clips of the embedded world"""
CHECK_HELP = "report what a run would train on and list every bad file; exit code 1 if there is one"
CHECK_EPILOG = """examples:
  cosmos-exp data check my_videos                                      every file decoded whole
  cosmos-exp data check my_videos model=cosmos_predict25_2b            is it enough for this model?
  cosmos-exp data check my_videos data.prompt="pick up the cup"        one prompt for all videos without a caption"""
ENCODE_HELP = "encode the windows and prompts that the cache lacks, so that runs which start together need not"
ENCODE_EPILOG = """examples:
  cosmos-exp data encode experiment=paper seed=0,1,2                         all that the sweep's runs read
  cosmos-exp data encode experiment=paper --shards 8 hydra/launcher=slurm_1xh100    eight jobs; again: what is missing"""
MAKE_HELP = "render a data set of an embedded world"
MAKE_EPILOG = """examples:
  cosmos-exp data make tabletop --out clips --count 200                    clips with their prompts
  cosmos-exp data make tabletop --out pairs --split test --count 8         first frames with prompts, for generate --prompts
  cosmos-exp data make tabletop --out views --views left,right             two cameras side by side"""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    checker = add_command(actions, "check", check, CHECK_HELP, CHECK_EPILOG)
    checker.add_argument("dir", help="LeRobot (meta/info.json), GR1-100 (metadata.csv), or videos/ with captions")
    add_overrides(checker, "configuration, e.g. model=cosmos_predict25_2b data.camera=… data.num_frames=93")

    encoder = add_command(actions, "encode", encode, ENCODE_HELP, ENCODE_EPILOG)
    add_shards(encoder)
    encoder.set_defaults(shards=(0, 1))
    add_overrides(encoder, "configuration of the runs; a key may take several values")

    maker = add_command(actions, "make", make, MAKE_HELP, MAKE_EPILOG)
    add = maker.add_argument
    add("world", choices=DATA_MAKERS.names, help="the embedded world")
    add("--out", required=True, metavar="DIR", help="the new folder")
    add("--split", default="train", choices=["train", "test"], help="clips, or first frames with prompts")
    add("--look", default="robot", choices=["robot", "human"], help="appearance of the hands")
    add("--views", default="head", metavar="NAME,…", help="cameras side by side: head, left, right")
    add("--count", type=int, default=32, help="number of clips or test scenes")
    add("--seed", type=int, default=0, help="number of the first clip or scene")


def check(args: argparse.Namespace) -> int:
    """Report the good clips and every problem. Returns 1 if there is a problem or no clip."""
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.config.paths import cache_root
    from cosmos_exp.data.files import record_of
    from cosmos_exp.data.inspection import inspect_data
    from cosmos_exp.data.readers.records import guess_reader
    from cosmos_exp.tracking.progress import with_progress

    folder = Path(args.dir).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Give the folder of your videos.")
    words = [f"data.path='{folder.absolute()}'", *args.overrides]
    if not any(word.startswith("data=") for word in words):
        words.append(f"data={guess_reader(folder)}")
    config = compose_config(words)
    tests = Path(config.data.test_path) if config.data.test_path else None
    record = record_of(folder, cache_root(config))
    if record.is_file():
        print(f"{record}: files are not decoded again that it lists with their size and time; delete it to decode all")
    decoding = partial(with_progress, stage="decoding", unit="file", keep=False)
    inspection = inspect_data(config.data, folder, tests, decoding, True, cache_root(config))
    _print_clips(folder, config.data, inspection)
    for note in inspection.notes:
        print(printable(f"note: {note}"))
    if not inspection.clips and not inspection.problems:
        inspection.problems.append("no videos found")
    for problem in inspection.problems:
        print(printable(f"BAD  {problem}"))
    return int(bool(inspection.problems))


def _print_clips(folder: Path, data: Data, inspection: Inspection) -> None:
    clips, pairs = inspection.clips, len(inspection.pairs)
    frames = sum(clip.stop - clip.start for clip in clips)
    print(f"{folder}: {data.reader}, {len(clips)} good videos, {frames} frames, {pairs} test pairs")
    for checked in clips[:SHOWN]:
        width, height = checked.info.shown_size
        text = f"{checked.stop - checked.start} frames, {width}x{height}, {checked.info.fps:g} fps"
        print(one_line(f"  {checked.clip.name}: {text}: {checked.clip.prompt[:90]}"))


def encode(args: argparse.Namespace) -> int:
    """Encode what runs of these configurations read, or a shard of it. Returns the exit code."""
    from cosmos_exp.cli.shards import run_shards
    from cosmos_exp.config.composing import compose_config, expand, quoted
    from cosmos_exp.config.paths import cache_root
    from cosmos_exp.experiment.prepare import encode_shard

    configs = list(map(compose_config, expand(quoted(args.overrides))))
    files = encode_shard(configs, *args.shards)
    return 0 if args.shards[0] else run_shards(args, cache_root(configs[0]), files, "file")


def make(args: argparse.Namespace) -> int:
    """Render a data set of an embedded world into a new folder: a run would train on whatever else is there. Returns the exit code."""
    out = writable_folder(args.out)
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out {out}: is not empty. Choose a new folder.")
    views = tuple(args.views.split(","))
    files = DATA_MAKERS.get(args.world)(
        out, split=args.split, look=args.look, views=views, count=args.count, seed=args.seed
    )
    print(f"{len(files)} files of the split {args.split} in {out}")
    return 0
