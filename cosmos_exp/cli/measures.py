"""`cosmos-exp measures certify`: which faults each measure sees, from which dose, and which it rewards."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import writable_folder
from cosmos_exp.errors import UserError

if TYPE_CHECKING:
    from cosmos_exp.metrics.certify.faults import Fault
    from cosmos_exp.metrics.certify.run import Request

HELP = "what the measures can see"
CERTIFY_HELP = "plant graded faults in clips and certify which of them each measure finds"
EPILOG = """examples:
  cosmos-exp measures certify --data DIR                                  the videos below DIR, windows of 17 frames
  cosmos-exp measures certify --data DIR --size 240x416 --frames 33 --clips 40
  cosmos-exp measures certify --data tabletop --clean 99                  rendered scenes, with faults of the scene
  cosmos-exp measures certify --data DIR --measures tse,tse_moving --faults blur,warp=1/4

Writes certificate.md, certificate.json and certificate.png. The same command again computes only what is missing.

exit codes: 0 done, 1 a video could not be read or measured, 2 wrong arguments"""
WORLDS = ("tabletop",)
NAMES_IN_TITLE = 3  # folders or files that the title of a certificate names


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command with its action and its options."""
    measures = commands.add_parser(
        "measures", help=HELP, description=HELP, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = measures.add_subparsers(dest="action", metavar="ACTION", required=True)
    parser = actions.add_parser(
        "certify",
        help=CERTIFY_HELP,
        description=CERTIFY_HELP,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", nargs="+", required=True, metavar="DIR", help="folders or videos; or: tabletop")
    parser.add_argument("--out", metavar="DIR", help="default: outputs/certificates/NAME")
    parser.add_argument("--clips", type=int, default=24, metavar="N", help="clips with faults (default: 24)")
    parser.add_argument(
        "--clean",
        type=int,
        default=0,
        metavar="N",
        help="clean clips in all, those with faults too (default: only those)",
    )
    parser.add_argument("--frames", type=int, default=17, metavar="N", help="frames of a clip (default: 17)")
    parser.add_argument("--size", metavar="HxW", help="size of a clip (default: that of the first video)")
    parser.add_argument("--fps", type=float, metavar="F", help="frames per second (default: those of each video)")
    parser.add_argument(
        "--judge",
        metavar="NAME",
        help="also a judge: a file of conf/judge (default: rules for the tabletop, else none)",
    )
    parser.add_argument("--measures", metavar="NAME,…", help="only these measures (default: all)")
    parser.add_argument("--faults", metavar="NAME[=DOSE/DOSE],…", help="only these faults and doses (default: all)")
    parser.add_argument("--doses", type=int, metavar="K", help="at most K doses per fault, the strongest among them")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one per core)")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="configuration, e.g. sampson.layout=2x2"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Certify and print what was written."""
    from cosmos_exp.files import write_json, write_text
    from cosmos_exp.metrics.certify.certificate import build
    from cosmos_exp.metrics.certify.figure import draw
    from cosmos_exp.metrics.certify.run import chosen_measures, score
    from cosmos_exp.metrics.certify.tables import fault_table, markdown

    request = request_of(args)
    chosen_measures(request)
    name = args.data[0] if args.data[0] in WORLDS else Path(args.data[0]).resolve().stem
    out = writable_folder(args.out) if args.out else Path("outputs") / "certificates" / name
    certificate = build(request, score(request, out))
    write_json(out / "certificate.json", certificate.to_json())
    draw(certificate, out / "certificate.png")
    write_text(out / "certificate.md", markdown(certificate, "certificate.png"))
    print(fault_table(certificate))
    print(f"\n{out / 'certificate.md'}")
    return 0


def request_of(args: argparse.Namespace) -> Request:
    """The request that the options describe.

    Raises:
        UserError: an option is wrong, or there are no videos.
        RunError: a video cannot be read.
    """
    from cosmos_exp.cli.judge import load
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.metrics.certify.clips import cut_clips, find_videos, with_faults_in
    from cosmos_exp.metrics.certify.faults import FAULTS
    from cosmos_exp.metrics.certify.run import Material, Request, cores

    is_world = args.data[0] in WORLDS
    judge = args.judge or ("rules" if is_world else "none")
    config = compose_config([f"judge={judge}", *args.set])
    count = max(args.clips, args.clean)
    size = _size(args.size) if args.size else None
    if is_world:
        world = import_module(f"cosmos_exp.{args.data[0]}.certificate")  # each embedded world has a `make_material`
        material = world.make_material(count, args.frames, size, args.seed)
    else:
        clips = cut_clips(find_videos([Path(d) for d in args.data]), count, args.frames, size, args.fps)
        material = Material(clips, list(FAULTS.values()))
    clips = with_faults_in(material.clips, args.clips) if args.clean > args.clips else material.clips
    faults = [_thinned(f, args.doses) for f in _chosen(material.faults, args.faults)]
    names = ", ".join(Path(d).name for d in args.data[:NAMES_IN_TITLE])
    return Request(
        about=names + (", …" if len(args.data) > NAMES_IN_TITLE else ""),
        material=replace(material, clips=clips, faults=faults),
        config=config,
        load_judge=None if judge == "none" else partial(load, config),
        measures=args.measures.split(",") if args.measures else (),
        seed=args.seed,
        # A judge with weights takes the GPU to itself.
        workers=(args.workers or cores()) if judge in ("none", "rules") else 1,
    )


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and min(int(height), int(width)) >= 32):
        raise UserError(f"--size {text}: pass height and width in pixels, at least 32, e.g. --size 240x416")
    if int(height) % 2 or int(width) % 2:
        raise UserError(f"--size {text}: H.264 needs even sides")
    return int(height), int(width)


def _chosen(faults: Sequence[Fault], text: str | None) -> list[Fault]:
    """The faults that --faults lists, `name` or `name=dose/dose`; all of them without it."""
    known = {f.name: f for f in faults}
    chosen = []
    for name, _, doses in (word.partition("=") for word in (text.split(",") if text else known)):
        if name not in known:
            raise UserError(f"--faults: no fault {name}. Choose from {', '.join(known)}.")
        offered = {f"{d:g}": d for d in known[name].doses}
        unknown = [d for d in doses.split("/") if doses and d not in offered]
        if unknown:
            raise UserError(f"--faults: {name} has no dose {', '.join(unknown)}. Choose from {', '.join(offered)}.")
        kept = tuple(d for text, d in offered.items() if not doses or text in doses.split("/"))
        chosen.append(replace(known[name], doses=kept))
    return chosen


def _thinned(fault: Fault, most: int | None) -> Fault:
    """The fault with at most `most` of its doses, evenly chosen, the strongest among them."""
    if most is None or len(fault.doses) <= most:
        return fault
    if most < 1:
        raise UserError(f"--doses {most}: must be at least 1. Leave it out to use all doses.")
    last = len(fault.doses) - 1
    kept = [last - round(i * last / max(most - 1, 1)) for i in range(most)]
    return replace(fault, doses=tuple(fault.doses[i] for i in sorted(kept)))
