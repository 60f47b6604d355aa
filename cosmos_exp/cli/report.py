"""`cosmos-exp report DIR`: tables, figures and an HTML page from run folders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosmos_exp.report.writing import WrittenReport

HELP = "write tables, figures and an HTML page from one run, a sweep, or any folder of runs"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to `cosmos-exp`."""
    parser = commands.add_parser("report", help=HELP, description=HELP)
    parser.add_argument("dir", metavar="DIR", help="folder with runs")
    parser.add_argument("--out", metavar="DIR", help="write the report to this folder (default: the folder with runs)")
    parser.add_argument(
        "--margin",
        action="append",
        default=[],
        metavar="MEASURE=NUMBER",
        help="margin of equivalence, e.g. instruction=0.25; repeatable (default: from the runs' configurations)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the report and print its table. Exit code 1 if a run failed."""
    from cosmos_exp.report.writing import write_report

    report = write_report(Path(args.dir), Path(args.out) if args.out else None, args.margin or [])
    print_report(report)
    return int(report.any_failed)


def print_report(report: WrittenReport) -> None:
    """Print the table of runs and where the report is."""
    from cosmos_exp.report.terminal import print_runs

    print_runs(report.runs)
    if report.not_compared:
        print(f"No differences are reported: {report.not_compared}")
    files = ", ".join(str(p.relative_to(report.out)) for p in report.files)
    print(f"written: {files}, {len(report.figures)} figures in {report.out}")
    print(f"page: {report.page}")
