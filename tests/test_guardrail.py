"""The real cosmos_guardrail in diffusers' own pipeline, with random weights from a stand-in of the hub."""

import os
import sys

import pytest
from conftest import GUARDRAIL, ROOT, needs_guardrail, program


@pytest.mark.slow
@needs_guardrail
def test_the_pipeline_blurs_faces_and_refuses_prompts_and_videos_with_ours_as_with_the_packages_own(tmp_path):
    paths = os.pathsep.join(map(str, (ROOT / "tests", ROOT, GUARDRAIL)))
    done = program(sys.executable, ROOT / "tests" / "guardrail_script.py", tmp_path, PYTHONPATH=paths)
    assert done.returncode == 0, done.stderr[-3000:]
