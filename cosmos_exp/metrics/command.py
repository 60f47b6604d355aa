"""`cosmos-exp sampson` and `cosmos-exp judge`: the measures alone, on any videos."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cosmos_exp.compose import compose_config
from cosmos_exp.config import Sampson
from cosmos_exp.errors import RunError, UserError


def _files(names: list[str]) -> list[Path]:
    paths = [Path(n).expanduser() for n in names]
    absent = [str(p) for p in paths if not p.is_file()]
    if absent:
        raise UserError(f"there is no such file: {', '.join(absent)}")
    return paths


def _figure(value: float | None) -> str:
    return "   -   " if value is None else f"{value:7.3f}"


def sampson(args: argparse.Namespace) -> int:
    """Print a line a video (or JSON). Exit code 1 if one could not be read."""
    from cosmos_exp.data.video import read_video
    from cosmos_exp.metrics.sampson import temporal_sampson

    rows, failed = [], False
    for path in _files(args.videos):
        try:
            result = temporal_sampson(read_video(path), Sampson())
            rows.append({"video": str(path), **result.detail()})
        except RunError as error:
            failed = True
            rows.append(
                {"video": str(path), "tse": None, "tse_moving": None, "static_share": None, "reason": str(error)}
            )
    if args.json:
        print(json.dumps(rows, indent=2))
        return int(failed)
    print("   tse   moving  static  video   (pixels; lower is steadier)")
    for row in rows:
        figures = " ".join(_figure(row[m]) for m in ("tse", "tse_moving", "static_share"))
        print(f"{figures}  {row['video']}" + (f"   [{row['reason']}]" if row["reason"] else ""))
    return int(failed)


def judge(args: argparse.Namespace) -> int:
    """Print each video's scores. Exit code 1 if an answer held none."""
    overrides = [f"judge={args.judge}"] + ([f"judge.source='{args.source}'"] if args.source else [])
    config = compose_config(overrides)
    paths = _files(args.videos)
    import torch

    from cosmos_exp.data.video import probe, read_video
    from cosmos_exp.metrics.judge import load_judge, load_rubric

    cuda = torch.cuda.is_available()
    loaded = load_judge(config.judge, torch.device("cuda" if cuda else "cpu"), "bf16" if cuda else "no", config.seed)
    if loaded is None:
        raise UserError("--judge none: choose one that judges")
    rows = []
    for path in paths:
        for rubric in map(load_rubric, config.judge.rubrics):
            if rubric.needs_instruction and not args.prompt:
                continue
            answer = loaded.answer(read_video(path), probe(path).fps, rubric, args.prompt)
            rows.append({"video": str(path), "measure": rubric.measure, "judge": loaded.name, **vars(answer)})
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            expected = "" if row["expected"] is None else f" (expected {row['expected']:.2f})"
            score = "no score: " + repr(row["text"][:60]) if row["score"] is None else f"{row['score']}{expected}"
            print(f"{row['measure']:12} {score}  {row['video']}")
    return int(any(r["score"] is None for r in rows))
