"""`cosmos-exp data check`: every file decoded, what a run would train on, and what each model needs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.text import one_line, printable

if TYPE_CHECKING:
    from cosmos_exp.config.schema import Config
    from cosmos_exp.data.dataset import Inspection

SHOWN = 3  # clips that are described


def check(args: argparse.Namespace) -> int:
    """Report the good clips and every problem. Returns 1 if there is a problem or no clip."""
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.data.dataset import inspect_data
    from cosmos_exp.data.readers.registry import guess_reader
    from cosmos_exp.errors import UserError
    from cosmos_exp.tracking.progress import with_progress

    folder = Path(args.dir).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Give the folder of your videos.")
    model, *after = [w.removeprefix("model=") for w in args.model or [""]]
    overrides = [*args.overrides, *after, *(args.write_hashes or [])]
    group = [] if any(o.startswith("data=") for o in overrides) else [f"data={guess_reader(folder)}"]
    words = [*group, f"data.path='{folder.absolute()}'", *overrides]
    config = compose_config([*words, *([f"model={model}"] if model else [])])
    tests = Path(config.data.test_path) if config.data.test_path else None
    found = inspect_data(
        config.data,
        folder,
        tests,
        lambda clips: with_progress(clips, "decoding", len(clips), "video", keep=False),
        whole=True,
    )
    _print_clips(folder, config, found)
    if found.lengths:
        print("what a model needs of each video: frames (seconds that they show), frame rate, size")
    for name in ([model] if model else _models()) if found.lengths else []:
        _print_needs(config if name == model else compose_config([*words, f"model={name}"]), name, found)
    for note in found.notes:
        print(printable(f"note: {note}"))
    for problem in found.problems:
        print(printable(f"BAD  {problem}"))
    if not found.clips and not found.problems:
        print("BAD  no videos found")
    if found.problems or not found.clips:
        return 1
    _print_split(config, found, tests)
    if args.write_hashes is not None:
        _write_hashes(folder, found)
    return 0


def _models() -> list[str]:
    from cosmos_exp.config.paths import conf_dir

    return sorted(p.stem for p in (conf_dir() / "model").glob("*.yaml"))


def _print_clips(folder: Path, config: Config, found: Inspection) -> None:
    frames = sum(c.stop - c.start for c in found.clips)
    print(
        f"{folder}: {config.data.reader}, {len(found.clips)} good videos, {frames} frames, {len(found.pairs)} test pairs"
    )
    for c in found.clips[:SHOWN]:
        sizes = " + ".join("x".join(map(str, i.shown_size)) for i in (c.info, *(o.info for o in c.others)))
        text = f"{c.clip.name}: {c.stop - c.start} frames, {sizes}, {c.info.fps:g} fps: {c.clip.prompt[:90]}"
        print(f"  {one_line(text)}")
    if len(found.clips) > SHOWN:
        print(f"  … and {len(found.clips) - SHOWN} more")


def _print_needs(config: Config, name: str, found: Inspection) -> None:
    from cosmos_exp.data.needs import needs_of

    n = needs_of(config, name, found.lengths)
    print(
        f"model={n.model}: {n.frames} frames ({n.seconds} s), {n.fps}, {n.size} pixels: {n.long_enough} are long enough"
    )
    if n.fits:
        print(f"  data.num_frames={n.fits} fits all videos")


def _print_split(config: Config, found: Inspection, tests: Path | None) -> None:
    """What a run holds out. Too few videos are reported here, and stop the run."""
    from cosmos_exp.data.hold_out import hold_out
    from cosmos_exp.errors import UserError

    try:
        counts = hold_out(config.data, len(found.clips), tests is not None, "the folder")
    except UserError as error:
        print(printable(f"note: {error}"))
        return
    prompts = len(found.pairs) if tests else counts.test
    print(f"a run would use {counts.train} for training, {counts.validation} for validation, {prompts} for the test")


def _write_hashes(folder: Path, found: Inspection) -> None:
    from cosmos_exp.data.hashes import hashed_files, write_hashes

    videos = [p for c in found.clips for p in (c.clip.path, *(o.path for o in c.others))]
    videos += [p.recording for p in (*found.pairs, *found.selection) if p.recording]
    files = hashed_files(folder, videos)
    print(f"{write_hashes(folder, files)}: hashes of {len(files)} files; every later check and run compares them")
