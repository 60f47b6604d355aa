"""`cosmos-exp data check DIR`: what a run would train on, and every bad file. `cosmos-exp data make`: render a data set."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

SHOWN = 3  # clips that `data check` describes


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command with its two actions."""
    help = "check a folder of training data, or render a data set"
    data = commands.add_parser("data", help=help, description=help)
    actions = data.add_subparsers(dest="action", metavar="ACTION", required=True)

    help = "report what a run would train on and list every bad file; exit code 1 if there is one"
    checker = actions.add_parser("check", help=help, description=help)
    checker.add_argument("dir", help="LeRobot (meta/info.json), GR1-100 (metadata.csv), or videos/ with captions")
    checker.add_argument("overrides", nargs="*", help="configuration, e.g. data.camera=… data.num_frames=93")
    checker.set_defaults(run=run)

    help = "render a data set of an embedded world"
    maker = actions.add_parser("make", help=help, description=help)
    maker.add_argument("world", choices=["tabletop"])
    maker.add_argument("--out", required=True, metavar="DIR")
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
    from tqdm import tqdm

    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.data.dataset import inspect_data
    from cosmos_exp.data.readers.registry import guess_reader
    from cosmos_exp.errors import UserError

    folder = Path(args.dir).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    group = [] if any(o.startswith("data=") for o in args.overrides) else [f"data={guess_reader(folder)}"]
    config = compose_config([*group, f"data.path='{folder.absolute()}'", *args.overrides])
    tests = Path(config.data.test_path) if config.data.test_path else None
    found = inspect_data(
        config.data, folder, tests, lambda clips: tqdm(clips, desc="inspecting", unit="video", leave=False)
    )
    frames = sum(c.stop - c.start for c in found.clips)
    print(
        f"{folder}: {config.data.reader}, {len(found.clips)} good videos, {frames} frames, {len(found.pairs)} test pairs"
    )
    for c in found.clips[:SHOWN]:
        sizes = " + ".join(f"{i.width}x{i.height}" for i in (c.info, *(o.info for o in c.others)))
        print(f"  {c.clip.name}: {c.stop - c.start} frames, {sizes}, {c.info.fps:g} fps: {c.clip.prompt[:90]}")
    if len(found.clips) > SHOWN:
        print(f"  … and {len(found.clips) - SHOWN} more")
    for note in found.notes:
        print(f"note: {note}")
    for problem in found.problems:
        print(f"BAD  {problem}")
    if not found.clips and not found.problems:
        print("BAD  no videos found")
    return 1 if found.problems or not found.clips else 0


def make(args: argparse.Namespace) -> int:
    """Render a data set of an embedded world. Existing files are kept. Returns the exit code."""
    world = import_module(f"cosmos_exp.{args.world}.dataset")  # each embedded world has a `make_dataset`
    views = tuple(args.views.split(","))
    files = world.make_dataset(
        Path(args.out), split=args.split, appearance=args.look, views=views, count=args.count, seed=args.seed
    )
    print(f"{len(files)} {'clips' if args.split == 'train' else 'first frames'} in {args.out}")
    return 0
