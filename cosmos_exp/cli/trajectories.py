"""`cosmos-exp trajectories`: videos of a finished run, scored and filtered, as a LeRobot data set."""

from __future__ import annotations

import argparse
import sys

from cosmos_exp.cli.arguments import writable_folder
from cosmos_exp.text import printable

HELP = "generate, score and filter videos of a finished run, and write them as a LeRobot v3.0 data set"
EPILOG = """examples:
  cosmos-exp trajectories outputs/sweeps/demo/lora-r32 --out kept --seeds 10 --keep 'instruction>=4 and tse<0.5'
  cosmos-exp trajectories RUN --prompts scenes --out kept --seeds 100 --keep 'instruction>=4' --target 40
  cosmos-exp trajectories RUN --out all --actions idm:model.pt --set hardware=1xh100 judge=reason2_2b

scenes/ holds NAME.png (the first frame) with NAME.txt (the prompt); without --prompts the run's own test prompts are used.
Videos are made seed by seed over all prompts. With --target it stops as soon as so many are kept.
--keep is an expression of pandas over the measures (<, <=, >, >=, ==, !=, and, or, not). An episode without the score is dropped.

The command can be stopped at any time: the same command continues and writes the same data set. Made videos and their scores
stay in OUT/.made, so that another --keep, more --seeds or a higher --target make only what is missing. Remove OUT/.made before
you upload the set.

exit codes: 0 done, 1 nothing or less than the target was kept, or it was interrupted, 2 the request was wrong"""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("run_folder", metavar="RUN", help="folder of a finished run")
    add("--out", required=True, metavar="DATASET", help="folder of the data set")
    add("--prompts", metavar="DIR", help="NAME.png with NAME.txt (default: the test prompts of the run)")
    add("--keep", metavar="CONDITION", help="e.g. 'instruction>=4 and physics>=3' (default: keep all)")
    add("--seeds", type=int, metavar="N", help="start noises 0 to N-1 for each prompt (default: the run's)")
    add("--target", type=int, metavar="N", help="stop as soon as N videos are kept")
    add(
        "--actions",
        metavar="idm:FILE",
        help="inverse dynamics model that infers states and actions: TorchScript, or the name of a registered one",
    )
    add(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of making and scoring, e.g. hardware=1xh100"
    )


def run(args: argparse.Namespace) -> int:
    """Make the data set and print what was kept. Exit code 1 if the target was not reached."""
    out = writable_folder(args.out)
    from cosmos_exp.trajectories.making import check_out, make_and_score, open_store
    from cosmos_exp.trajectories.output import write_output
    from cosmos_exp.trajectories.plan import Request, prepare_job

    request = Request(args.run_folder, args.prompts, args.keep, args.seeds, args.target, args.actions, args.set)
    try:
        check_out(out)
        job = prepare_job(request)
        with open_store(out) as store:
            summary = write_output(job, *make_and_score(job, store), out)
    except KeyboardInterrupt:
        print("interrupted. Run the same command again to continue.", file=sys.stderr)
        return 1
    made, kept = summary["made"], summary["kept"]
    print(f"{kept} of {made} videos kept ({kept / made:.0%}), {summary['planned']} planned")
    for reason, count in summary["dropped"].items():
        print(printable(f"  {count:5} dropped: {reason}"))
    print(f"{out}: {kept} episodes, LeRobot v3.0; README.md")
    if not summary["actions"]:
        print("the set has no actions; --actions idm:FILE infers them")
    elif "observation.state" not in summary["actions"]["columns"]:
        print("the set has no observation.state, which LeRobot's policies read: the model of --actions declares none")
    if args.target is not None and kept < args.target:
        print(
            f"{kept} of the {args.target} asked for: give more --seeds or --prompts, or loosen --keep", file=sys.stderr
        )
        return 1
    return 0
