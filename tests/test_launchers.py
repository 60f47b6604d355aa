"""Every file of conf/hydra/launcher through Hydra and its plugin."""

import importlib.util
import subprocess
import sys

import hydra
import pytest
from conftest import ROOT, program
from hydra.core.global_hydra import GlobalHydra

from cosmos_exp.config.composing import compose_config, register
from cosmos_exp.config.paths import conf_dir
from cosmos_exp.errors import UserError
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep import slurm
from cosmos_exp.sweep.slurm import batch_script

SLURM = {
    "slurm_cpu": "cpus-per-task=2 mem=4096M time=60",
    "slurm_1xh100": "gpus-per-node=1 cpus-per-task=16 mem=131072M time=1440",
    "slurm_8xh100": "gpus-per-node=8 cpus-per-task=96 mem=921600M time=720",
}


def launcher(choice, *overrides):
    """The composed `hydra.launcher` of hydra/launcher=choice."""
    register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="cosmos-exp"):
        words = [f"hydra/launcher={choice}", "name=mine", *overrides]
        return hydra.compose("config", words, return_hydra_config=True).hydra.launcher


@pytest.mark.parametrize("choice", SLURM)
def test_slurm_gets_the_resources_of_the_launcher(choice, tmp_path):
    """The batch script; tests/slurm gives it to a real Slurm."""
    words = ["hydra.launcher.partition=gpu", "hydra.launcher.additional_parameters={mail-user: a@b.org}"]
    settings = hydra.utils.instantiate(launcher(choice, *words, "hydra.launcher.array_parallelism=3")).settings
    script = batch_script(tmp_path, 20, settings)
    lines = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")}
    wanted = {"partition=gpu", "mail-user=a@b.org", "array=0-19%3", "requeue", "signal=B:USR1@120", "job-name=mine"}
    assert wanted | {*SLURM[choice].split()} <= lines
    assert f"{sys.executable} -m cosmos_exp run" in script
    assert "srun" not in script
    several = batch_script(tmp_path, 1, settings, nodes=2, processes=8)
    assert "torch.distributed.run --nnodes=2 --nproc-per-node=8" in several
    assert "#SBATCH --nodes=2" in several
    for text in (script, several):
        assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_an_app_of_someone_else_has_no_slurm_launcher(tmp_path):
    """It submits `cosmos-exp run` and nothing else. Hydra loads our plugins in any app."""
    app = tmp_path / "app.py"
    app.write_text(
        "import hydra\nhydra.main(version_base='1.3', config_path=None)(lambda config: print('task', config.x))()"
    )
    for word, said in (
        ("hydra/launcher=basic", "task 1\n"),
        ("hydra/launcher=slurm", "Could not find 'hydra/launcher/slurm'"),
    ):
        done = program(sys.executable, app, "-m", "+x=0,1", word, cwd=tmp_path, PYTHONPATH=str(ROOT))
        assert said in done.stdout + done.stderr


def test_the_ray_launcher_composes_or_says_how_to_install_it():
    if importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None:
        with pytest.raises(UserError, match=r"pip install 'cosmos-exp\[ray\]'"):
            compose_config(["hydra/launcher=ray_1xh100"])
        return
    assert launcher("ray_1xh100").ray.remote.num_gpus == 1


@pytest.mark.parametrize(
    ("end", "state", "said"),
    [
        ("FAILED", "failed", "Slurm job 7_0 ended (FAILED) before the run could record its end: data.path: gone"),
        ("OUT_OF_MEMORY", "failed", "Slurm job 7_0 ended (OUT_OF_MEMORY)"),
        ("CANCELLED", None, None),
    ],
)
def test_a_job_that_ends_without_a_status_is_recorded(end, state, said, tmp_path, monkeypatch):
    """A job that fails before its run begins, or is killed; one that is canceled in the queue stays missing."""
    words = iter(["PENDING", "RUNNING", "RUNNING"])

    class Queue:
        def job(self, job_id):
            return slurm.Job(job_id, next(words, end))

    monkeypatch.setattr(slurm, "QUEUE", Queue())
    monkeypatch.setattr(slurm, "_SECONDS_BETWEEN_LOOKS", 0.0)
    folder = RunFolder(tmp_path)
    folder.log.write_text("data.path: gone\n")
    slurm.record_job(folder, "7_0")
    slurm.wait_for_jobs([folder])
    assert folder.status.get("state") == state
    assert slurm.how_job_ended(folder) == f"Slurm job 7_0 ended: {end}"
    if said:
        assert folder.status["error"].startswith(said)
