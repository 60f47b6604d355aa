"""Requests that would fail after hours, or train nonsense: refused before anything is computed, by key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from corpus.cases import Case


def override(*words: str) -> Callable[[Path], list[str]]:
    """`run` with these words and a run folder that must not be made."""
    return lambda at: ["run", *words, f"run_dir={at / 'run'}"]


def rubric(text: str, *words: str) -> Callable[[Path], list[str]]:
    """`run` with a rubric of one's own."""

    def make(at: Path) -> list[str]:
        (at / "mine.yaml").write_text(text)
        return ["run", f"judge.rubrics=[{at / 'mine.yaml'},physics]", *words, f"run_dir={at / 'run'}"]

    return make


def model_folder(text: str) -> Callable[[Path], list[str]]:
    """`run` of a model folder with this text in transformer/config.json."""

    def make(at: Path) -> list[str]:
        (at / "model" / "transformer").mkdir(parents=True)
        (at / "model" / "transformer" / "config.json").write_text(text)
        return ["run", "model=cosmos_predict25_2b", f"model.source={at / 'model'}", f"run_dir={at / 'run'}"]

    return make


ASKED = "system_prompt: Judge.\nuser_prompt: How good?\n"
# What the configuration says about the time after training, found before it. One request for many: all are listed.
LATER = (
    Case(
        "sizes in a model folder",
        model_folder('{"num_layers": 100000000000000000000, "mlp_ratio": 4}'),
        2,
        ("transformer/config.json: num_layers=100000000000000000000: Input should be less than or equal to 1024",),
    ),
    Case(
        "several",
        override(
            "judge=rules",
            "judge.rubrics=[nothing.yaml]",
            "tracking.mode=online",
            "sampson.layout=1x7",
            "data.num_frames=100001",
            "cache_dir=/dev/null/cache",
        ),
        2,
        (
            "'nothing.yaml' is neither physics nor instruction nor the path of a YAML file",
            "tracking.mode=online: no wandb login",
            "sampson.layout=1x7: does not divide frames of 96x160 pixels",
            "data.num_frames=100001: needs 25,001 positions of the transformer",
            "memory: training needs at least",
            "1,500,060 tokens per sample",
            "hardware.checkpointing=full",
            "cache_dir: /dev/null/cache: /dev/null is a file",
        ),
    ),
    Case(
        "nothing left to train on",
        override("data.validation_videos=1000", "dry_run=true"),
        2,
        ("nothing is left to train on", "lower data.validation_videos"),
    ),
    Case(
        "generate without pairs",
        lambda at: ["generate", "--adapter", "base", "--prompts", str(at), "--out", str(at / "run")],
        2,
        ("has no test pairs", "--prompts", "NAME.txt (the prompt)"),
    ),
    Case(
        "a pair without views",
        override("sampson.layout=1x2", "sampson.pairs=left:right", "judge=rules", "judge.rubrics=[physics,physics]"),
        2,
        ("sampson.pairs: 'left:right' is not A:B with two of the views view1, view2", "two rubrics measure physics"),
    ),
    Case(
        "a rubric that the rules do not know",
        rubric(ASKED, "judge=rules", "sampson.layout=1x7"),
        2,
        ("judge=rules has the rubrics physics and instruction, not 'mine'", "does not divide frames"),
    ),
    Case(
        "the name of a rubric",
        rubric(ASKED + "measure: 5\n", "judge=server", "judge.url=http://127.0.0.1:9/v1"),
        2,
        ("mine.yaml: measure=5",),
    ),
)
LACKING = ("sweep", "rank", "data=folder", "data.path=nowhere", "rank=8,16")
LAYOUT = "sampson.layout=1x7: does not divide frames of 96x160 pixels"
# What `run` says of one run, said once of all. A job of a cluster may find what the submitting machine lacks.
SWEEPS = (
    Case(
        "a sweep on this machine",
        lambda at: [*LACKING, "sampson.layout=1x7"],
        2,
        ("cosmos-exp: sampson.layout=1x7", LAYOUT, "data.path=", "nowhere: no such folder"),
        ("lora-r8",),
    ),
    Case(
        "some runs of a sweep",
        lambda at: ["sweep", "rank", "rank=8", "sampson.layout=1x7,null"],
        2,
        (f"cosmos-exp: lora-r8-layout1x7: {LAYOUT}",),
    ),
    Case(
        "the plan of a sweep",
        lambda at: ["sweep", "rank", "rank=8,16", "sampson.layout=1x7", "dry_run=true"],
        1,
        ("dry run: 2 runs would start now", f"cosmos-exp: dry run: missing here:\n{LAYOUT}"),
    ),
    Case(
        "a sweep of Slurm jobs",
        lambda at: [*LACKING, "sampson.layout=1x7", "hydra/launcher=slurm_cpu"],
        2,
        (LAYOUT,),
        ("no such folder", "sbatch"),
    ),
)
