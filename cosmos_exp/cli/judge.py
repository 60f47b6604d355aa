"""`cosmos-exp judge`: a judge's scores of any videos."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import existing_files
from cosmos_exp.errors import UserError
from cosmos_exp.text import printable

if TYPE_CHECKING:
    from cosmos_exp.config.schema import Config
    from cosmos_exp.metrics.judges.asking import Verdict
    from cosmos_exp.metrics.judges.interface import Judge, Question

HELP = "score videos from 1 to 5 by Cosmos-Reason2, a server, or the embedded world's rules"
EPILOG = """examples:
  cosmos-exp judge out/*.mp4 --judge reason2_8b --prompt "Use the left hand to pick up the cup."
  cosmos-exp judge out/*.mp4 --judge server --url http://localhost:8000/v1 --set judge.samples=5 judge.reasoning=true
  cosmos-exp judge clip.mp4 --rubric my_rubric.yaml --json
  cosmos-exp --plugin my_module judge clip.mp4 --judge rules --set judge.name=mine   a judge of your own

Scores are cached by video content, prompt, rubric, judge and settings. The same question is not asked twice.

exit codes: 0 all scored, 1 an answer held no score or the judge failed, 2 wrong arguments"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command and its options."""
    raw = argparse.RawDescriptionHelpFormatter
    judge = commands.add_parser("judge", help=HELP, description=HELP, epilog=EPILOG, formatter_class=raw)
    judge.add_argument("videos", nargs="+", metavar="VIDEO", help="video files")
    judge.add_argument("--prompt", help="the instruction that the videos show; without it only rubrics that need none")
    judge.add_argument("--no-cache", action="store_true", help="ask again, even if the score is cached")
    judge.set_defaults(run=run)
    add = judge.add_argument
    add("--judge", default="reason2_2b", metavar="NAME", help="a file of conf/judge (default: reason2_2b)")
    add("--source", help="hub repository or folder of the weights; server: the model's name")
    add("--url", help="server: address of the endpoint, up to /v1")
    add("--rubric", action="append", metavar="NAME", help="physics, instruction or a YAML file; can be repeated")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="configuration keys, e.g. judge.samples=5")
    add("--json", action="store_true", help="print everything, raw answers included, as JSON")


def run(args: argparse.Namespace) -> int:
    """Print each score as soon as it is known. Exit code 1 if an answer held no score."""
    from cosmos_exp.config.paths import cache_root
    from cosmos_exp.metrics.judges.asking import judge_all
    from cosmos_exp.metrics.judges.interface import Question
    from cosmos_exp.metrics.judges.rubric import load_rubric

    config = config_of(args)
    paths = existing_files(args.videos)
    rubrics = [r for r in map(load_rubric, config.judge.rubrics) if args.prompt or not r.needs_instruction]
    if not rubrics:
        raise UserError("--prompt: not given, and every rubric needs the instruction. Give it with --prompt TEXT.")
    judge = load(config)
    questions = [Question(p, r, args.prompt) for p in paths for r in rubrics]
    cache = None if args.no_cache else cache_root(config) / "judged"
    rows = []
    for question, verdict in judge_all(judge, questions, config.judge, config.seed, cache):
        row = {"video": str(question.video), "measure": question.rubric.measure, "judge": judge.name}
        rows.append({**row, **vars(verdict)})
        if not args.json:
            print(_line(question, verdict, show_answer=config.judge.name not in ("reason2", "server")), flush=True)
    if args.json:
        print(json.dumps(rows, indent=2))
    return int(any(r["score"] is None for r in rows))


def config_of(args: argparse.Namespace) -> Config:
    """The configuration with the judge and the options given.

    Raises:
        UserError: an option or a key of --set is wrong.
    """
    from cosmos_exp.config.composing import compose_config

    overrides = [f"judge={args.judge}"]
    if args.source:
        overrides.append(f"judge.source='{args.source}'")
    if args.url:
        overrides.append(f"judge.url='{args.url}'")
    if args.rubric:
        overrides.append(f"judge.rubrics={args.rubric}")
    return compose_config([*overrides, *args.set])


def load(config: Config) -> Judge:
    """The judge, on the GPU in bf16 if there is one, else on the CPU in fp32.

    Raises:
        UserError: --judge none.
    """
    import torch

    from cosmos_exp.config.registry import JUDGES

    cuda = torch.cuda.is_available()
    device, precision = torch.device("cuda" if cuda else "cpu"), "bf16" if cuda else "no"
    loaded: Judge | None = JUDGES.get(config.judge.name)(config.judge, device, precision, config.seed)
    if loaded is None:
        raise UserError("--judge none: gives no scores. Choose rules, reason2_2b, reason2_8b or server.")
    return loaded


def _line(question: Question, verdict: Verdict, show_answer: bool) -> str:
    if verdict.score is None:
        score = f"no score: {verdict.answers[-1][:60]!r}"
    else:
        score = f"{verdict.score:g}"
        if verdict.expected not in (None, verdict.score):
            score += f" (expected {verdict.expected:.2f})"
    line = f"{question.rubric.measure:12} {score}  {question.video}"
    return printable(f"{line}   {verdict.answers[-1]}" if show_answer else line)
