"""Damaged records of a run: each file cut short, empty, garbage, of another type, with other keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from corpus.cases import Case
from corpus.records import run_folder

ROW = b'{"step": 1, "loss": 0.5}\n'
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "garbage": lambda content: b"\x00\xff\x1b[2J\xfe" * 20 + b"\n" + content,
    "another type": lambda content: b"[1, 2]\n",
    "other keys": lambda content: b'{"hello": 1}\n',
}
# What the error says besides the file's name, by file; the fix is the last.
SAID = {
    "config.yaml": ("Without one, delete it", "run_dir"),
    "status.json": ("Delete this file and resume the run: it is written again",),
    "manifest.json": ("Delete this file and resume the run: finished work is kept",),
    "metrics.json": ("Delete this file and resume the run: it is made again",),
    "scores.jsonl": ("Delete this file and resume the run: the scores are made again",),
    "train_log.jsonl": ("Delete this file and resume the run: the log begins at the newest checkpoint",),
}
NO_DAMAGE = {("train_log.jsonl", "empty"), ("train_log.jsonl", "cut short")}  # as after a kill: what is missing is made


def spoil(folder: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    """Damage one file of a run folder."""
    file = folder / name
    file.write_bytes(damage(file.read_bytes() if file.is_file() else ROW))


def damaged(name: str, damage: str, *words: str) -> Callable[[Path], list[str]]:
    """A command on a run folder with one damaged file; DIR stands for the folder."""

    def make(at: Path) -> list[str]:
        folder = run_folder(at / "theirs")
        spoil(folder, name, DAMAGES[damage])
        return [w.replace("DIR", str(folder)) for w in words]

    return make


REPORTED = tuple(
    Case(f"{name}, {damage}", damaged(name, damage, "report", "DIR"), 2, (name, *said), ("\x1b",))
    for name, said in SAID.items()
    for damage in DAMAGES
    if (name, damage) not in NO_DAMAGE
)
RESUMED = tuple(
    Case(f"{name}, {damage}", damaged(name, damage, "run", "run_dir=DIR"), 2, (name, *SAID[name]), ("\x1b",))
    for name, damage in (
        ("config.yaml", "cut short"),
        ("status.json", "empty"),
        ("manifest.json", "garbage"),
        ("metrics.json", "other keys"),
        ("scores.jsonl", "another type"),
    )
)


def with_text(name: str, text: str) -> Callable[[Path], list[str]]:
    """`report` on a run folder with this text in one file."""

    def make(at: Path) -> list[str]:
        folder = run_folder(at / "theirs")
        (folder / name).write_text(text)
        return ["report", str(folder)]

    return make


VALUES = tuple(
    Case(f"{name}: {said}", with_text(name, text), 2, (name, said, *SAID[name]))
    for name, text, said in (
        (
            "status.json",
            '{"state": "\\u001b[2J"}',
            "state: input should be 'running', 'done', 'failed' or 'interrupted'",
        ),
        ("manifest.json", '{"stages": {"train": {"seconds": "long"}}}', "stages.train.seconds"),
        ("manifest.json", '{"data": {"scenes": [1]}}', "data.scenes"),
        ("metrics.json", '{"measures": {"tse": {"n": 2}}}', "measures.tse.mean: is missing"),
        ("metrics.json", '{"training": {"train_loss": NaN}}', "it holds NaN"),
        (
            "scores.jsonl",
            '{"sample": "a", "seed": 0, "video": "a.mp4", "measure": "tse"}\n',
            "row 1: value: is missing",
        ),
        (
            "scores.jsonl",
            '{"sample": "a", "seed": 0, "video": "a.mp4", "measure": "tse", "value": 1e300}\n',
            "row 1: value: input should be less than or equal to 1000000000000",
        ),
        ("train_log.jsonl", '{"step": "one", "loss": 1}\n', "row 1: step"),
    )
)


def into(out: str, *words: str) -> Callable[[Path], list[str]]:
    """A command on a run folder whose results go to a place where nobody can make a folder."""
    return lambda at: [*words, str(run_folder(at / "theirs")), "--out", out]


PLACES = (
    *(
        Case(f"{words[0]} --out {out}", into(out, *words), 2, (f"--out {out}: ", said, "Choose"))
        for words, out, said in (
            (("report",), "/sys/cosmos_exp", "cannot be written"),
            (("report",), "/proc/x", "cannot be written"),
            (("report",), "/etc/passwd/x/y", "/etc/passwd is a file"),
            (("report",), f"/tmp/{'x' * 300}", "cannot be written (File name too long)"),
            (("rerun",), "/etc/passwd", "/etc/passwd is a file"),
        )
    ),
    Case("report of a file", lambda at: ["report", "/etc/passwd"], 2, ("/etc/passwd: is a file", "Give a run folder")),
    Case(
        "a file in the place of a folder",
        lambda at: ["run", f"run_dir={run_folder(at / 'a') / 'config.yaml' / 'run'}"],
        2,
        ("run_dir: ", "config.yaml is a file", "Set run_dir to a folder"),
    ),
)
