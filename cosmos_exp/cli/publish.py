"""`cosmos-exp publish RUN`: a folder for the Hugging Face hub from a finished run, and its upload."""

from __future__ import annotations

import argparse
from pathlib import Path

from cosmos_exp.cli.arguments import writable_folder
from cosmos_exp.text import printable

HELP = "write a folder for the Hugging Face hub: adapter, model card, records without private text; upload it with --to"
EPILOG = """examples:
  cosmos-exp publish outputs/my_robot/2026-11-26_20-35-55             writes published/ in the run's folder
  cosmos-exp publish outputs/my_robot/2026-11-26_20-35-55 --out /tmp/robot
  cosmos-exp publish outputs/sweeps/rank/lora-r32 --to ann/my-robot   also uploads it (`hf auth login` first)

Host and user names, paths, addresses and secrets are hidden in what is written, also in the header of the adapter file.
Look at the folder before you upload it: prompts, videos, and names of samples and runs are published as they are.

exit codes: 0 done, 1 the upload failed, 2 not a finished run with an adapter, no token or an invalid name"""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("dir", metavar="RUN", help="a finished run with an adapter")
    parser.add_argument("--out", metavar="DIR", help="the new folder (default: published/ in RUN)")
    parser.add_argument("--to", metavar="USER/NAME", help="create this repository on the hub, and upload the folder")
    parser.add_argument("--private", action="store_true", help="with --to: a new repository is private")


def run(args: argparse.Namespace) -> int:
    """Write the folder, and upload it if asked to. Returns the exit code."""
    from cosmos_exp.publish.folder import check_target, upload, write_folder
    from cosmos_exp.publish.source import load_source

    if args.to:
        check_target(args.to)
    folder = Path(args.dir).expanduser()
    out = writable_folder(args.out or str(folder / "published"))
    notes = write_folder(load_source(folder), out, args.to)
    print(printable(out))
    for note in notes:
        print(f"note: {printable(note)}")
    if args.to:
        print(f"uploaded: {upload(out, args.to, args.private)}")
    else:
        print(f"Look at README.md, then upload it with: hf upload USER/NAME {printable(out)}")
    return 0
