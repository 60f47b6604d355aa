"""The worked examples of docs/guides/add_*.md, run through the command line as a user would."""

import importlib
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL

from cosmos_exp.config.builders import import_function, resolve_builder
from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.schema import Judge, Sampson
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import UserError
from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder

GUIDES = Path(__file__).parent.parent / "docs" / "guides"


def write_examples(guide: str, folder: Path) -> list[Path]:
    """Write each python and yaml block of a guide that begins with a comment `# PATH`; Python files without folders."""
    text = (GUIDES / f"{guide}.md").read_text(encoding="utf-8")
    files = []
    for block in re.findall(r"^```(?:python|yaml)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if name := re.match(r"# ([\w./-]+\.(?:py|yaml))\n", block):
            path = Path(name.group(1))
            files.append(folder / (path.name if path.suffix == ".py" else path))
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            files[-1].write_text(block, encoding="utf-8")
    return files


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """Write the examples of a guide to a folder on the import path; their modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    files = []

    def write(guide):
        files.extend(write_examples(guide, tmp_path))
        assert files, f"{guide}.md has no block with a file name"
        return {str(f.relative_to(tmp_path)): f for f in files}

    yield write
    for file in files:
        sys.modules.pop(file.stem, None)


def test_add_a_measure(examples, cli, tmp_path, monkeypatch):
    from cosmos_exp.metrics import score

    monkeypatch.setattr(score, "MEASURE_FUNCTIONS", dict(score.MEASURE_FUNCTIONS))
    file = examples("add_measure")["motion.py"]
    runpy.run_path(str(file), run_name="__main__")
    score.MEASURE_FUNCTIONS.pop("__main__:measure_motion")
    importlib.import_module("motion")
    run = f"run_dir={tmp_path / 'run'}"
    others = [f"measures.{name}=false" for name in ("recording", "motion", "words", "references")]
    assert cli("run", *SMALL, "training.max_steps=2", "adapter=none", "sampson.enabled=false", *others, run) == 0
    folder = RunFolder(tmp_path / "run")
    rows = read_json_lines(folder.scores)
    assert {r["measure"] for r in rows} == {"motion"}
    assert all(r["value"] > 0 and r["detail"]["largest_step"] >= r["value"] for r in rows)
    assert folder.read(folder.metrics)["measures"]["motion"]["mean"] > 0


def test_a_measure_is_computed_once_and_null_has_a_reason(examples, tmp_path, monkeypatch):
    from cosmos_exp.config.schema import Config
    from cosmos_exp.metrics import score
    from cosmos_exp.metrics.interface import ScoredVideo

    examples("add_measure")
    monkeypatch.setattr(score, "MEASURE_FUNCTIONS", {"motion:measure_motion": ("motion",)})
    write_video(tmp_path / "a.mp4", np.zeros((1, 32, 32, 3), np.uint8), 8)
    videos = [ScoredVideo("a", seed, None, tmp_path / "a.mp4") for seed in (0, 1)]
    score.measure_videos(videos, Config(), tmp_path / "scores.jsonl", {("a", 0, "motion")}, show=False)
    (row,) = read_json_lines(tmp_path / "scores.jsonl")
    assert (row["seed"], row["value"]) == (1, None)
    assert row["detail"]["reason"] == "the video has a single frame"


def test_add_a_judge(examples, cli, tmp_path, capsys):
    files = examples("add_judge")
    runpy.run_path(str(files["my_judge.py"]), run_name="__main__")
    frames = np.full((9, 64, 96, 3), 128, np.uint8)
    write_video(tmp_path / "steady.mp4", frames, 8)
    frames[::2] = 168
    write_video(tmp_path / "flickering.mp4", frames, 8)
    videos = [tmp_path / "steady.mp4", tmp_path / "flickering.mp4"]
    trusted = ("--plugin", "my_judge", "judge")
    words = ["--judge", "rules", "--rubric", files["flicker.yaml"], "--set", "judge.builder=my_judge.FlickerJudge"]
    capsys.readouterr()
    assert cli(*trusted, *videos, *words, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["judge"], r["measure"]) for r in rows] == [("flicker", "flicker")] * 2
    assert rows[0]["score"] > 4.8
    assert rows[1]["score"] == 1
    assert cli(*trusted, *videos, *words) == 0
    assert "the largest jump is" in capsys.readouterr().out
    assert cli(*trusted, *videos, *words[:-1], "judge.builder=my_judge.NoJudge") == 2
    assert "judge.builder=my_judge.NoJudge" in capsys.readouterr().err
    assert cli("judge", *videos, *words) == 2
    assert "add `--plugin my_judge` to the command line" in capsys.readouterr().err
    assert cli("--plugin", "no_such_plugin", "judge", *videos, *words) == 2
    assert "--plugin no_such_plugin: cannot be imported" in capsys.readouterr().err
    named = compose_config(["judge=flicker"], config_dirs=(str(tmp_path / "mine"),))
    assert named.judge.builder == "my_judge.FlickerJudge"


def test_resolve_builder_accepts_both_forms_of_an_import_path():
    from cosmos_exp.tabletop.judge import RulesJudge

    for path in ("cosmos_exp.tabletop.judge.RulesJudge", "cosmos_exp.tabletop.judge:RulesJudge"):
        assert resolve_builder("judge.builder", path) is RulesJudge


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no_such_package.Judge", "--plugin no_such_package"),
        ("os.path.join", "--plugin os.path"),
        ("cosmos_exp.tabletop.judge.NoJudge", "NoJudge"),
        ("cosmos_exp.files.os.remove", "not defined in cosmos_exp"),
        ("cosmos_exp.files.inside", "cannot be called with 4 arguments"),
        ("cosmos_exp.errors.__doc__", "is of type str"),
        ("cosmos_exp.metrics.reason2.Reason2", "Set judge.builder=cosmos_exp.metrics.judges.reason2.Reason2"),
        ("cosmos_exp.metrics.server:ServerJudge", "Set judge.builder=cosmos_exp.metrics.judges.server.ServerJudge"),
    ],
)
def test_resolve_builder_names_the_key_the_cause_and_the_new_path(path, words):
    with pytest.raises(UserError, match=re.escape(f"judge.builder={path}")) as caught:
        resolve_builder("judge.builder", path)
    assert words in str(caught.value)


@pytest.mark.parametrize("path", ["not a path", "", "__import__('os')", "cosmos_exp", "a.b; c"])
def test_resolve_builder_takes_import_paths_only(path):
    with pytest.raises(UserError, match="no import path"):
        resolve_builder("judge.builder", path)


def test_registries_list_their_choices():
    from cosmos_exp.metrics.geometry.matcher_registry import MATCHERS, load_matcher
    from cosmos_exp.metrics.judges.registry import JUDGES, load_judge

    for registry in (MATCHERS, JUDGES):
        assert all(callable(import_function("key", path)) for path in registry.values())
    with pytest.raises(UserError, match=r"sampson\.matcher=orb: choose one of sift"):
        load_matcher(Sampson(matcher="orb"))
    with pytest.raises(UserError, match=r"judge\.name=critic: choose one of none, rules, reason2"):
        load_judge(Judge(name="critic"), None, "no", 0)
