"""`cosmos-exp data check DIR`: what a run would train on, and every bad file. `cosmos-exp data make`: render a data set."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import writable_folder
from cosmos_exp.config.registry import DATA_MAKERS
from cosmos_exp.errors import UserError
from cosmos_exp.text import one_line, printable

if TYPE_CHECKING:
    from cosmos_exp.config.schema import Config
    from cosmos_exp.data.inspection import Inspection
    from cosmos_exp.data.readers.records import Clip

SHOWN = 3  # clips that are described

DATA_EPILOG = """examples:
  cosmos-exp data check my_videos                         every bad file
  cosmos-exp data make tabletop --out clips               32 clips of the embedded world"""
MAKE_EPILOG = """examples:
  cosmos-exp data make tabletop --out clips --count 200                    clips with their ground truth
  cosmos-exp data make tabletop --out pairs --split test --count 8         first frames with prompts, for generate --prompts
  cosmos-exp data make tabletop --out views --views left,right             two cameras side by side"""
EPILOG = """examples:
  cosmos-exp data check my_videos                                      every file decoded whole
  cosmos-exp data check my_videos --for model=cosmos_predict25_2b      is it enough for this model?
  cosmos-exp data check my_videos data.prompt="pick up the cup"        one prompt for all videos without a caption
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command with its two actions."""
    help = "check a folder of training data, or render a data set"
    data = commands.add_parser(
        "data", help=help, description=help, epilog=DATA_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = data.add_subparsers(dest="action", metavar="ACTION", required=True)

    help = "report what a run would train on and list every bad file; exit code 1 if there is one"
    checker = actions.add_parser(
        "check", help=help, description=help, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    checker.add_argument("dir", help="LeRobot (meta/info.json), GR1-100 (metadata.csv), or videos/ with captions")
    checker.add_argument("overrides", nargs="*", help="configuration, e.g. data.camera=… data.num_frames=93")
    # argparse refuses positional words after an option: it also takes the overrides that follow.
    checker.add_argument(
        "--for",
        dest="model",
        nargs="+",
        metavar=("model=NAME", "KEY=VALUE"),
        help="check for this model; default: tabletop",
    )
    checker.set_defaults(run=run)

    help = "render a data set of an embedded world"
    maker = actions.add_parser(
        "make", help=help, description=help, epilog=MAKE_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    maker.add_argument("world", choices=DATA_MAKERS.names, help="the embedded world")
    maker.add_argument("--out", required=True, metavar="DIR", help="the new folder")
    maker.add_argument(
        "--split", default="train", choices=["train", "test"], help="clips, or first frames with prompts"
    )
    maker.add_argument("--look", default="robot", choices=["robot", "human"], help="appearance of the hands")
    maker.add_argument("--views", default="head", metavar="NAME,…", help="cameras side by side: head, left, right")
    maker.add_argument("--count", type=int, default=32, help="number of clips or test scenes")
    maker.add_argument("--seed", type=int, default=0, help="number of the first clip or scene")
    maker.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action. Returns the exit code."""
    return make(args) if args.action == "make" else check(args)


def check(args: argparse.Namespace) -> int:
    """Report the good clips and every problem. Returns 1 if there is a problem or no clip."""
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.data.inspection import inspect_data
    from cosmos_exp.data.readers.records import guess_reader
    from cosmos_exp.tracking.progress import with_progress

    folder = Path(args.dir).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Give the folder of your videos.")
    model, *after = args.model or [""]
    model = model.removeprefix("model=")
    overrides = [*args.overrides, *after]
    words = [f"data={guess_reader(folder)}", f"data.path='{folder.absolute()}'", *overrides]
    if any(word.startswith("data=") for word in overrides):
        words.pop(0)
    config = compose_config([*words, f"model={model}"] if model else words)
    tests = Path(config.data.test_path) if config.data.test_path else None

    def show(clips: list[Clip]) -> Iterable[Clip]:
        return with_progress(clips, "decoding", len(clips), "video", keep=False)

    inspection = inspect_data(config.data, folder, tests, show, whole=True)
    _print_clips(folder, config, inspection)
    for note in inspection.notes:
        print(printable(f"note: {note}"))
    for problem in inspection.problems:
        print(printable(f"BAD  {problem}"))
    if not inspection.clips and not inspection.problems:
        print("BAD  no videos found")
    if inspection.problems or not inspection.clips:
        return 1
    _print_split(config, inspection, tests)
    return 0


def _print_clips(folder: Path, config: Config, inspection: Inspection) -> None:
    clips = inspection.clips
    frames = sum(c.stop - c.start for c in clips)
    pairs = len(inspection.pairs)
    print(f"{folder}: {config.data.reader}, {len(clips)} good videos, {frames} frames, {pairs} test pairs")
    for c in clips[:SHOWN]:
        sizes = []
        for info in (c.info, *(other.info for other in c.others)):
            width, height = info.shown_size
            sizes.append(f"{width}x{height}")
        text = f"{c.stop - c.start} frames, {' + '.join(sizes)}, {c.info.fps:g} fps: {c.clip.prompt[:90]}"
        print(f"  {one_line(f'{c.clip.name}: {text}')}")
    if len(clips) > SHOWN:
        print(f"  … and {len(clips) - SHOWN} more")


def _print_split(config: Config, inspection: Inspection, tests: Path | None) -> None:
    """What a run holds out. Too few videos are reported here, and stop the run."""
    from cosmos_exp.data.dataset import hold_out

    try:
        counts = hold_out(config.data, len(inspection.clips), tests is not None, "the folder")
    except UserError as error:
        print(printable(f"note: {error}"))
        return
    prompts = len(inspection.pairs) if tests else counts.test
    print(f"a run would use {counts.train} for training, {counts.validation} for validation, {prompts} for the test")


def make(args: argparse.Namespace) -> int:
    """Render a data set of an embedded world. Existing files are kept. Returns the exit code."""
    _refuse_others(Path(args.out))
    make_dataset, views = DATA_MAKERS.get(args.world), tuple(args.views.split(","))
    files = make_dataset(
        writable_folder(args.out), split=args.split, look=args.look, views=views, count=args.count, seed=args.seed
    )
    print(f"{len(files)} {'clips' if args.split == 'train' else 'first frames'} in {args.out}")
    return 0


def _refuse_others(out: Path) -> None:
    """Refuse a folder with videos or pictures that this command did not make: a run would train on both.

    Raises:
        UserError: there are some.
    """
    own = re.compile(r"(robot|human)_\d+(_left|_right)?\.(mp4|png)")
    found = [*out.glob("*.mp4"), *out.glob("videos/*.mp4"), *out.glob("*.png")]
    others = sorted(p.name for p in found if not own.fullmatch(p.name))
    if others:
        raise UserError(f"--out {out}: holds other files, e.g. {one_line(others[0])}. Choose a new folder.")
