"""The worked examples of docs/examples, run through the command line as a user would."""

import importlib
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SMALL

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.measures import MEASURES
from cosmos_exp.config.registry import JUDGES, MATCHERS, MEASURE_FUNCTIONS, READERS
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import UserError
from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder

DOCS = ROOT / "docs"
EXAMPLES = {"add_measure": "motion.py", "add_judge": "my_judge.py"}


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """Write the examples of a guide to a folder on the import path; their modules are forgotten afterwards.

    The guide's module, and each of its yaml blocks that begins with a comment `# PATH`.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    files = []

    def write(guide):
        files.append(Path(shutil.copy(DOCS / "examples" / EXAMPLES[guide], tmp_path)))
        text = (DOCS / "guides" / f"{guide}.md").read_text(encoding="utf-8")
        for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            if name := re.match(r"# ([\w./-]+\.yaml)\n", block):
                files.append(tmp_path / name.group(1))
                files[-1].parent.mkdir(parents=True, exist_ok=True)
                files[-1].write_text(block, encoding="utf-8")
        return {str(f.relative_to(tmp_path)): f for f in files}

    for registry in (JUDGES, MATCHERS, MEASURE_FUNCTIONS, READERS):
        monkeypatch.setattr(registry, "targets", dict(registry.targets))
    measures = dict(MEASURES)
    yield write
    MEASURES.clear()
    MEASURES.update(measures)
    for file in files:
        sys.modules.pop(file.stem, None)


def test_add_a_measure(examples, cli, tmp_path):
    file = examples("add_measure")["motion.py"]
    runpy.run_path(str(file), run_name="__main__")
    importlib.import_module("motion")
    run = f"run_dir={tmp_path / 'run'}"
    assert cli("run", *SMALL, "training.max_steps=2", "adapter=none", run) == 0
    folder = RunFolder(tmp_path / "run")
    rows = read_json_lines(folder.scores)
    assert {r["measure"] for r in rows} == {"motion"}
    assert all(r["value"] > 0 and r["detail"]["largest_step"] >= r["value"] for r in rows)
    assert folder.read(folder.metrics)["measures"]["motion"]["mean"] > 0


def test_add_a_judge(examples, tmp_path, answered):
    files = examples("add_judge")
    runpy.run_path(str(files["my_judge.py"]), run_name="__main__")
    frames = np.full((9, 64, 96, 3), 128, np.uint8)
    write_video(tmp_path / "steady.mp4", frames, 8)
    frames[::2] = 168
    write_video(tmp_path / "flickering.mp4", frames, 8)
    videos = [tmp_path / "steady.mp4", tmp_path / "flickering.mp4"]
    plugin = ("--plugin", "my_judge", "judge")
    words = ["--judge", "rules", "--rubric", files["flicker.yaml"], "--set", "judge.name=flicker"]
    rows = json.loads(answered([*plugin, *videos, *words, "--json"], 0))
    assert [(r["judge"], r["measure"]) for r in rows] == [("flicker", "flicker")] * 2
    assert rows[0]["score"] > 4.8
    assert rows[1]["score"] == 1
    named = compose_config(["judge=flicker"], config_dirs=(str(tmp_path / "mine"),))
    assert named.judge.name == "flicker"


@pytest.mark.parametrize("registry", [JUDGES, MATCHERS, MEASURE_FUNCTIONS, READERS], ids=lambda r: r.key)
def test_every_registered_name_is_imported_at_first_use(registry):
    assert all(callable(registry.get(name)) for name in registry.names)
    with pytest.raises(UserError, match=r"=quux: no such choice; choose one of"):
        registry.get("quux")
