"""`cosmos-exp report DIR`: tables, figures and an HTML page from run folders; with --verify, the check of a report."""

from __future__ import annotations

import argparse
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import writable_folder
from cosmos_exp.errors import UserError
from cosmos_exp.text import one_line, printable

if TYPE_CHECKING:
    from cosmos_exp.report.tables import WrittenReport

MOST_FINDINGS = 20  # of one check; the rest is counted

HELP = "write tables, figures and an HTML page from one run, a sweep, or any folder of runs; or verify a report"
EPILOG = """examples:
  cosmos-exp report outputs/sweeps/rank                        write the report into the sweep's folder
  cosmos-exp report outputs/sweeps/rank --out /tmp/rank        write it elsewhere
  cosmos-exp report outputs/sweeps/rank --margin tse=0.1       another margin of equivalence
  cosmos-exp report outputs/sweeps/rank --verify               check the report, its claims, scores and videos
  cosmos-exp report docs/ablation.tar.xz --verify --without-videos    the same for a published archive of records

A run folder with a damaged record is listed with its reason; the others are reported, and the exit code is 1.

--verify writes nothing. Exit code 1 if frozen claims were changed, a run is missing, a score file or video is not the one
that was recorded, or a number of the report cannot be recomputed from the run folders. See docs/claims.md."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "dir", metavar="DIR", help="folder with runs; with --verify also an archive of one, NAME.tar.xz"
    )
    parser.add_argument("--out", metavar="DIR", help="folder of the report (default: the folder with runs)")
    parser.add_argument(
        "--margin",
        action="append",
        default=[],
        metavar="MEASURE=NUMBER",
        help="margin of equivalence, e.g. instruction=0.25; repeatable (default: from the runs' configurations)",
    )
    parser.add_argument("--verify", action="store_true", help="write nothing; check the report that is there")
    parser.add_argument("--without-videos", action="store_true", help="with --verify: do not look at the videos")


def run(args: argparse.Namespace) -> int:
    """Write the report and print what it says; exit code 1 if a run failed or cannot be read. With --verify check it instead."""
    folder, out = Path(args.dir), Path(args.out).expanduser() if args.out else None
    if folder.is_file():
        return verify_archive(folder, args)
    if args.verify:
        if args.margin:
            raise UserError("--margin: a report is verified with the margins that it was written with. Leave it out.")
        return verify(folder, out, not args.without_videos)
    from cosmos_exp.report.tables import write_report

    if args.out:
        writable_folder(args.out)
    report = write_report(folder, out, args.margin)
    print_report(report)
    return int(report.any_failed)


def verify_archive(archive: Path, args: argparse.Namespace) -> int:
    """Check a published record, one folder packed as .tar.xz: unpack it into a temporary folder, then verify that."""
    if not args.verify or args.out or not tarfile.is_tarfile(archive):
        raise UserError(
            f"{archive}: not a folder. An archive of records can be verified: add --verify and leave --out out."
        )
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(archive) as records:
            records.extractall(place, filter="data")
        args.dir = str(next(Path(place).iterdir()))
        return run(args)


def verify(folder: Path, out: Path | None, videos: bool) -> int:
    """Check a report and print one line per check and finding. Exit code 1 if there is a finding."""
    from cosmos_exp.report.verify import verify as checks_of

    checks = checks_of(folder, out, videos)
    for name, findings in checks.items():
        print(f"{'FAILED' if findings else 'ok    '}  {name}")
        for finding in findings[:MOST_FINDINGS]:
            print(f"          {one_line(finding)}")
        if len(findings) > MOST_FINDINGS:
            print(f"          and {len(findings) - MOST_FINDINGS} more")
    if not videos:
        print("The videos were not checked (--without-videos).")
    return int(any(checks.values()))


def print_report(report: WrittenReport) -> None:
    """Print the claims, the table and the first notes, and where the report is."""
    from cosmos_exp.report.tables import print_study

    print_study(report.study)
    for damage in report.study.damages:
        print(printable(damage), file=sys.stderr)
    files = ", ".join(str(path.relative_to(report.out)) for path in report.files)
    print(f"written: {files} in {report.out}")
    print(f"page: {report.files[-1]}")
