"""A sweep through Ray: two runs at once, one of them killed. Needs an environment with the extra [ray] (docs/log.md)."""

import importlib.util

import psutil
import pytest
from conftest import SMALL, wait_until

from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None,
        reason="pip install 'cosmos-exp[ray]' in an environment of its own, without constraints.txt",
    ),
]


def holder_of(folder):
    """The process that holds a run's lock: the run itself."""
    lock = str(folder.path / ".lock")
    return next(p for p in psutil.process_iter(["open_files"]) if lock in {f.path for f in p.info["open_files"] or ()})


def test_a_killed_run_fails_alone_and_the_second_command_finishes_it(start, finished, tmp_path):
    words = ["sweep", "rank", *SMALL, "generation.max_prompts=1", "training.max_steps=20"]
    words += ["training.epochs=20", "rank=8,16", "hydra/launcher=ray_cpu", "hydra.launcher.ray.init.num_cpus=2"]
    killed, other = (RunFolder(tmp_path / "outputs" / "sweeps" / "rank" / f"lora-r{r}") for r in (8, 16))
    log = tmp_path / "log.txt"
    child = start(*words, log=log, cwd=tmp_path)
    wait_until(lambda: read_json_lines(killed.train_log) or child.poll() is not None)
    process = holder_of(killed)
    process.suspend()
    wait_until(other.is_locked)  # the two run at once
    process.kill()
    assert child.wait(300) == 1, log.read_text()
    assert (killed.status["state"], other.status["state"]) == ("failed", "done")
    assert "SIGKILL" in killed.status["error"]
    assert "1 of 2 runs are done" in log.read_text()

    finished(*words, log=log, cwd=tmp_path)
    assert [r["step"] for r in read_json_lines(killed.train_log)] == list(range(1, 21))
    assert len(other.manifest["starts"]) == 1
