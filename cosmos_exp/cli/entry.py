"""The commands. Nothing heavy is imported until a command runs, so `cosmos-exp --help` answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from cosmos_exp import __version__
from cosmos_exp.errors import UserError

EPILOG = """examples:
  cosmos-exp run                                      train, generate and score the embedded world (minutes, no GPU)
  cosmos-exp run data=folder data.path=DIR rank=8 alpha=16 adapter=dora
  cosmos-exp run model=cosmos_predict25_2b hardware=8xh100 dry_run=true     what it would do, nothing loaded
  cosmos-exp run -m rank=8,16,32                      one run after another
  cosmos-exp sweep rank                               a study; again: finish what is missing or failed
  cosmos-exp data check DIR                           every bad file, named
  cosmos-exp report outputs/sweeps/rank               table, figures and a page with the videos side by side

exit codes: 0 done, 1 the run or the check failed, 2 the request was wrong"""

SAMPSON_EPILOG = """examples:
  cosmos-exp sampson outputs/*/*/videos/*.mp4 --plot pictures
  cosmos-exp sampson grid.mp4 --layout 2x2 --views left,right,wrist,- --pairs left:right
  cosmos-exp sampson left.mp4 right.mp4 --views left,right --calibration rig.yaml     one file a view

A - in the table means that the measure cannot say anything there; the reason stands below the table."""

JUDGE_EPILOG = """examples:
  cosmos-exp judge out/*.mp4 --judge reason2_8b --prompt "Use the left hand to pick up the cup."
  cosmos-exp judge out/*.mp4 --judge server --url http://localhost:8000/v1 --set judge.samples=5 judge.reasoning=true
  cosmos-exp judge clip.mp4 --rubric my_rubric.yaml --json
  cosmos-exp judge agree people.csv --judge reason2_2b      exact and within-one agreement, correlations, kappa

Scores are kept by video content, prompt, rubric, judge and settings: asking again costs nothing."""

SWEEP_EPILOG = """examples:
  cosmos-exp sweep rank                                        LoRA at ranks 8, 16, 32 on the embedded world
  cosmos-exp sweep rank seed=0,1,2 training.max_steps=60       any key can take several values
  cosmos-exp sweep paper --list                                what is done, failed, missing
  cosmos-exp sweep paper hydra/launcher=ray_1xh100             one run a GPU; slurm_8xh100 for a cluster

Each run has a process and a folder of its own, outputs/sweeps/<study>/<run>. One that fails is recorded; the rest goes
on, the summary shows it, exit code 1. The same command again does what is missing or failed and nothing else."""


def _run(args: argparse.Namespace) -> int:
    from cosmos_exp.cli.run import main

    return main(args.rest, debug=args.debug)


def _sampson(args: argparse.Namespace) -> int:
    from cosmos_exp.cli.sampson import sampson

    return sampson(args)


def _judge(args: argparse.Namespace) -> int:
    from cosmos_exp.cli.judge import judge

    return judge(args)


def _judge_agree(args: argparse.Namespace) -> int:
    from cosmos_exp.cli.judge import agree

    return agree(args)


def _generate(args: argparse.Namespace) -> int:
    from cosmos_exp.cli.generate import main

    return main(args)


def _data_check(args: argparse.Namespace) -> int:
    from cosmos_exp.cli.data import check

    return check(args)


def _data_make(args: argparse.Namespace) -> int:
    from importlib import import_module

    return import_module(f"cosmos_exp.{args.world}.dataset").command(args)


def _doctor(args: argparse.Namespace) -> int:
    from cosmos_exp.cli.doctor import main

    return main(args.overrides)


def _sweep(args: argparse.Namespace) -> int:
    from cosmos_exp.cli.sweep import main

    return main(args)


def _rerun(args: argparse.Namespace) -> int:
    from cosmos_exp.cli.rerun import main

    return main(args)


def _dashboard(args: argparse.Namespace) -> int:
    from cosmos_exp.tracking.dashboard import main

    return main(args)


def _report(args: argparse.Namespace) -> int:
    from cosmos_exp.report.writing import main

    return main(args)


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    root = argparse.ArgumentParser(
        prog="cosmos-exp",
        description="Fine-tune a video world model with LoRA or DoRA, and know what the choices did.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"cosmos-exp {__version__}")
    root.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, call: Callable, help: str, **options) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help, **options)
        sub.set_defaults(call=call)
        return sub

    run = add("run", _run, "one run: prepare, train, generate, evaluate, record", add_help=False)
    run.add_argument("rest", nargs="*", help="Hydra overrides and flags; run --help lists them")

    sweep = add(
        "sweep",
        _sweep,
        "a study from sweeps/NAME.yaml; again: finish what is missing or failed",
        epilog=SWEEP_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sweep.add_argument("name", help="rank, lora_vs_dora, alpha, paper, demo, or the path of your own YAML file")
    sweep.add_argument("overrides", nargs="*", help="configuration for all runs, e.g. model=… hydra/launcher=ray")
    sweep.add_argument("--list", action="store_true", help="show each run's state and stop")

    rerun = add("rerun", _rerun, "the same run again from its record, compared with the original at the end")
    rerun.add_argument("run_dir", metavar="RUN_DIR")
    rerun.add_argument("--out", metavar="DIR", help="folder of the new run (default: RUN_DIR-rerun1)")
    rerun.add_argument("--strict", action="store_true", help="exit code 1 if any loss, adapter, video or score differs")

    report = add("report", _report, "tables, figures and an HTML page from one run, a sweep, or any folder above them")
    report.add_argument("dir", help="folder with runs in it")
    report.add_argument("--out", help="write the report there (default: DIR)")
    report.add_argument(
        "--margin", action="append", metavar="MEASURE=NUMBER", help="equivalent within it, e.g. instruction=0.25"
    )

    sampson = add(
        "sampson",
        _sampson,
        "Sampson error of any videos, in time and across views",
        epilog=SAMPSON_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sampson.add_argument("videos", nargs="+", metavar="VIDEO")
    sampson.add_argument("--layout", metavar="RxC", help="each frame is a grid of so many rows and columns of views")
    sampson.add_argument(
        "--views", metavar="NAME,…", help="names of the tiles row by row, - leaves one out; or one a file"
    )
    sampson.add_argument("--pairs", metavar="A:B,…", help="views to compare across (default: all pairs)")
    sampson.add_argument(
        "--calibration", metavar="FILE", help="JSON or YAML with each view's camera (docs/measures.md)"
    )
    sampson.add_argument("--matcher", choices=["sift", "superpoint_lightglue"], help="default: sift, needs no weights")
    sampson.add_argument("--matcher-source", metavar="DIR", help="superpoint_lightglue: folder of its weights")
    sampson.add_argument("--estimator", choices=["magsac", "ransac", "five_point"], help="default: magsac")
    sampson.add_argument("--gap", type=int, metavar="K", help="compare frames K apart (default: 1)")
    sampson.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes over videos (default: one a core)"
    )
    sampson.add_argument("--plot", metavar="DIR", help="pictures: error over frames, matches of each view's worst pair")
    sampson.add_argument("--json", action="store_true", help="all figures as JSON")

    judge = add(
        "judge",
        _judge,
        "scores from 1 to 5 by Cosmos-Reason2, a server, or the embedded world's rules",
        epilog=JUDGE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    judge.add_argument("videos", nargs="+", metavar="VIDEO", help="or: agree FILE")
    judge.add_argument("--prompt", help="the instruction; without it only rubrics that need none are judged")
    judge.add_argument("--no-cache", action="store_true", help="ask again, even what was asked before")
    agree = add("judge-agree", _judge_agree, "how well a judge's scores agree with people's; also `judge agree FILE`")
    agree.add_argument(
        "file", metavar="FILE", help="CSV or JSON lines: video, score (a person's), prompt, measure, judge"
    )
    for sub in (judge, agree):
        sub.add_argument("--judge", default="reason2_2b", metavar="NAME", help="a choice of the judge group")
        sub.add_argument(
            "--source", help="hub repository or folder (server: the model's name), instead of the choice's own"
        )
        sub.add_argument("--url", help="server: address of the endpoint, up to /v1")
        sub.add_argument(
            "--rubric", action="append", metavar="FILE", help="physics, instruction or your YAML; repeatable"
        )
        sub.add_argument(
            "--set", nargs="+", default=[], metavar="KEY=VALUE", help="configuration, e.g. judge.samples=5"
        )
        sub.add_argument("--json", action="store_true", help="everything, with the raw answers, as JSON")

    generate = add("generate", _generate, "videos from adapter files, one after another in one process")
    generate.add_argument("--adapter", nargs="+", required=True, metavar="FILE_OR_DIR", help="or `base` for none")
    generate.add_argument("--prompts", required=True, metavar="DIR", help="NAME.png with NAME.txt")
    generate.add_argument("--out", required=True, metavar="DIR", help="videos go to DIR/<adapter>/")
    generate.add_argument("--alpha", type=float, help="for adapter files that do not carry their own")
    generate.add_argument("overrides", nargs="*", help="configuration, e.g. model=cosmos_predict25_2b hardware=1xh100")

    data = commands.add_parser("data", help="look at or make data", description="look at or make data")
    kinds = data.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = kinds.add_parser("check", help="what a run would train on; every bad file named, exit 1 if any")
    check.add_argument("dir", help="folder: LeRobot (meta/info.json), GR1-100 (metadata.csv) or videos/ with captions")
    check.add_argument("overrides", nargs="*", help="configuration, e.g. data.camera=… data.num_frames=93")
    check.set_defaults(call=_data_check)
    make = kinds.add_parser("make", help="render a data set of an embedded world")
    make.add_argument("world", choices=["tabletop"])
    make.add_argument("--out", required=True, metavar="DIR")
    make.add_argument("--split", default="train", choices=["train", "test"], help="clips, or first frames with prompts")
    make.add_argument("--look", default="robot", choices=["robot", "human"])
    make.add_argument("--views", default="head", metavar="NAME,…", help="cameras side by side: head, left, right")
    make.add_argument("--count", type=int, default=32, help="clips, or test scenes")
    make.add_argument("--seed", type=int, default=0)
    make.set_defaults(call=_data_make)

    dashboard = add("dashboard", _dashboard, "a saved wandb workspace and report for a study")
    dashboard.add_argument("study", help="its name below outputs/sweeps, or its folder")
    dashboard.add_argument("--entity", help="wandb entity (default: the study's, else yours)")
    dashboard.add_argument("--project", help="wandb project (default: the study's)")

    doctor = add("doctor", _doctor, "can this machine do this run?")
    doctor.add_argument("overrides", nargs="*", help="the run, e.g. model=cosmos_predict25_2b hardware=8xh100")
    return root


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    # Everything after `run` is Hydra's, flags such as -m and --cfg included; argparse would claim them.
    debug_first = argv[:1] == ["--debug"]
    if argv[debug_first : debug_first + 1] == ["run"]:
        args = argparse.Namespace(call=_run, rest=argv[debug_first + 1 :], debug=debug_first or "--debug" in argv)
    else:
        words = argv[debug_first:]
        if words[:2] == ["judge", "agree"]:
            argv = [*argv[:debug_first], "judge-agree", *words[2:]]
        # argparse takes no option between a name and its overrides: flags go first.
        if words[:1] == ["sweep"] and "--list" in words:
            argv = [*argv[:debug_first], "sweep", "--list", *(w for w in words[1:] if w != "--list")]
        args = parser().parse_args(argv)
    try:
        return args.call(args)
    except UserError as error:
        if args.debug:
            raise
        print(f"cosmos-exp: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("cosmos-exp: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
