"""`cosmos-exp sampson` and `cosmos-exp judge`: the measures alone, on any videos."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError

if TYPE_CHECKING:
    from cosmos_exp.metrics.judges.interface import Judge
from cosmos_exp.cli.sampson import _files


def _judge_config(args: argparse.Namespace) -> Config:
    words = [f"judge={args.judge}"] + ([f"judge.source='{args.source}'"] if args.source else [])
    words += [f"judge.url='{args.url}'"] if args.url else []
    if args.rubric:
        words.append("judge.rubrics=[" + ",".join(f"'{r}'" for r in args.rubric) + "]")
    return compose_config([*words, *args.set])


def _load(config: Config) -> Judge:
    import torch

    from cosmos_exp.metrics.judges.registry import load_judge

    cuda = torch.cuda.is_available()
    loaded = load_judge(config.judge, torch.device("cuda" if cuda else "cpu"), "bf16" if cuda else "no", config.seed)
    if loaded is None:
        raise UserError("--judge none: choose one that judges")
    return loaded


def judge(args: argparse.Namespace) -> int:
    """Print each video's scores as they come. Exit code 1 if an answer held none."""
    from cosmos_exp.config.paths import cache_root
    from cosmos_exp.metrics.judges.asking import judge_all
    from cosmos_exp.metrics.judges.interface import Question
    from cosmos_exp.metrics.judges.rubric import load_rubric

    config = _judge_config(args)
    paths = _files(args.videos)
    rubrics = [r for r in map(load_rubric, config.judge.rubrics) if args.prompt or not r.needs_instruction]
    if not rubrics:
        raise UserError("all rubrics ask for the instruction: give it with --prompt")
    loaded = _load(config)
    questions = [Question(p, r, args.prompt) for p in paths for r in rubrics]
    cache = None if args.no_cache else cache_root(config) / "judged"
    rows = []
    for question, verdict in judge_all(loaded, questions, config.judge, config.seed, cache):
        rows.append(
            {"video": str(question.video), "measure": question.rubric.measure, "judge": loaded.name, **vars(verdict)}
        )
        if not args.json:
            print(_line(rows[-1]), flush=True)
    if args.json:
        print(json.dumps(rows, indent=2))
    return int(any(r["score"] is None for r in rows))


def _line(row: dict[str, Any]) -> str:
    if row["score"] is None:
        score = f"no score: {row['answers'][-1][:60]!r}"
    else:
        score = f"{row['score']:g}" + (
            "" if row["expected"] in (None, row["score"]) else f" (expected {row['expected']:.2f})"
        )
    reasons = f"   {row['answers'][-1]}" if row["judge"] == "rules" else ""
    return f"{row['measure']:12} {score}  {row['video']}{reasons}"


def agree(args: argparse.Namespace) -> int:
    """Print how well a judge's scores agree with given ones."""
    from cosmos_exp.metrics.judges.agreement import agreement, read_pairs, show, with_scores

    rows = read_pairs(Path(args.file))
    if any(r.judge is None for r in rows):
        from cosmos_exp.config.paths import cache_root

        config = _judge_config(args)
        rows = with_scores(rows, _load(config), config, cache_root(config) / "judged")
    result = agreement(rows, seed=0)
    print(json.dumps(result, indent=2) if args.json else show(result))
    return int(result["missing"] > 0)
