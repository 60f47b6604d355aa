"""The real cosmos_guardrail in diffusers' own pipeline, with random weights from a stand-in of the hub."""

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


def test_the_pipeline_blurs_faces_and_refuses_prompts_and_videos_with_ours_as_with_the_packages_own(tmp_path):
    paths = [str(TESTS), str(TESTS.parent), str(PACKAGE)]
    words = [sys.executable, TESTS / "guardrail_script.py", tmp_path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
