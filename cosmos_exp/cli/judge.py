"""`cosmos-exp judge`: a judge's scores of any videos."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import existing_files
from cosmos_exp.errors import UserError
from cosmos_exp.text import one_line

if TYPE_CHECKING:
    from cosmos_exp.config.schema import Config
    from cosmos_exp.metrics.judges.interface import Judge

HELP = "score videos from 1 to 5 by Cosmos-Reason2, a server, or the embedded world's rules"
EPILOG = """examples:
  cosmos-exp judge out/*.mp4 --judge reason2_8b --prompt "Use the left hand to pick up the cup."
  cosmos-exp judge out/*.mp4 --judge server --set judge.url=http://localhost:8000/v1 judge.samples=5 judge.reasoning=true
  cosmos-exp judge clip.mp4 --rubric my_rubric.yaml --json
  cosmos-exp --plugin my_module judge clip.mp4 --judge rules --set judge.name=mine   a judge of your own

Scores are cached by video content, prompt, rubric, judge and settings. The same question is not asked twice.

exit codes: 0 all scored, 1 an answer held no score or the judge failed, 2 wrong arguments"""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("videos", nargs="+", metavar="VIDEO", help="video files")
    add("--judge", default="reason2_2b", metavar="NAME", help="a file of conf/judge (default: reason2_2b)")
    add("--prompt", help="the instruction that the videos show; without it only rubrics that need none")
    add("--rubric", action="append", metavar="NAME", help="physics, instruction or a YAML file; can be repeated")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="configuration keys, e.g. judge.samples=5")
    add("--no-cache", action="store_true", help="ask again, even if the score is cached")
    add("--json", action="store_true", help="print everything, raw answers included, as JSON")


def run(args: argparse.Namespace) -> int:
    """Print each score as soon as it is known. Exit code 1 if an answer held no score."""
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.config.paths import cache_root
    from cosmos_exp.metrics.judges.asking import judge_all
    from cosmos_exp.metrics.judges.interface import Question
    from cosmos_exp.metrics.judges.rubric import load_rubric

    words = [f"judge={args.judge}", *args.set]
    if args.rubric:
        words.append(f"judge.rubrics={args.rubric}")
    config = compose_config(words)
    paths = existing_files(args.videos)
    rubrics = [r for r in map(load_rubric, config.judge.rubrics) if args.prompt or not r.needs_instruction]
    if not rubrics:
        raise UserError("--prompt: not given, and every rubric needs the instruction. Give it with --prompt TEXT.")
    judge, cache = load(config), None
    if not args.no_cache:
        cache = cache_root(config) / "judged"
    rows = []
    questions = [Question(path, rubric, args.prompt) for path in paths for rubric in rubrics]
    for question, verdict in judge_all(judge, questions, config.judge, config.seed, cache):
        measure = question.rubric.measure
        rows.append({"video": str(question.video), "measure": measure, "judge": judge.name, **vars(verdict)})
        if not args.json:
            score = "no score" if verdict.score is None else f"{verdict.score:g}"
            print(one_line(f"{measure:12} {score}  {question.video}   {verdict.answers[-1][:200]}"), flush=True)
    if args.json:
        print(json.dumps(rows, indent=2))
    return int(any(row["score"] is None for row in rows))


def load(config: Config) -> Judge:
    """The judge, on the GPU in bf16 if there is one, else on the CPU in fp32.

    Raises:
        UserError: --judge none.
    """
    import torch

    from cosmos_exp.config.registry import JUDGES

    device, precision = torch.device("cpu"), "no"
    if torch.cuda.is_available():
        device, precision = torch.device("cuda"), "bf16"
    loaded: Judge | None = JUDGES.get(config.judge.name)(config.judge, device, precision, config.seed)
    if loaded is None:
        raise UserError("--judge none: gives no scores. Choose rules, reason2_2b, reason2_8b or server.")
    return loaded
