"""The real cosmos_guardrail in diffusers' own pipeline, with random weights from a stand-in of the hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = Path(sys.prefix) / "guardrail"  # `make` installs it beside the environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PACKAGE.is_dir(), reason="cosmos_guardrail is not in .venv/guardrail; `make test` installs it"
    ),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the script saw."""
    paths = [str(TESTS), str(TESTS.parent), str(PACKAGE)]
    words = [sys.executable, TESTS / "guardrail_script.py", tmp_path_factory.mktemp("guardrail")]
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_pipeline_knows_ours_as_the_packages_and_blurs_faces(found):
    assert found["is_an_instance"]
    assert found["shape"] == [5, 64, 64, 3]
    before, after = found["colours"]
    assert after < before / 4


def test_a_prompt_of_the_blocklist_and_a_text_model_that_fails_are_no_safe_prompts(found):
    assert found["safe"]
    assert found["blocked"] == [False, False]
    assert "the guardrail failed on the prompt 'Lift the red cup.': ValueError: no memory" in found["failing"]


def test_a_refused_video_is_an_error(found):
    assert "the guardrail refuses a generated video" in found["refused"]
