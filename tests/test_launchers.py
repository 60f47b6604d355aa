"""Every file of conf/hydra/launcher through Hydra and its plugin."""

import importlib.util
import subprocess
import sys

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from cosmos_exp.config.composing import compose_config, register
from cosmos_exp.config.paths import conf_dir
from cosmos_exp.errors import UserError
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep import slurm
from cosmos_exp.sweep.slurm import batch_script, start_jobs

SLURM = {
    "slurm_cpu": {"cpus_per_task": 2, "mem_gb": 4, "timeout_min": 60},
    "slurm_1xh100": {"gpus_per_node": 1, "cpus_per_task": 16, "mem_gb": 128, "timeout_min": 1440},
    "slurm_8xh100": {"gpus_per_node": 8, "cpus_per_task": 96, "mem_gb": 900, "timeout_min": 720},
}


def launcher(choice, *overrides):
    """The composed `hydra.launcher` of hydra/launcher=choice."""
    register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="cosmos-exp"):
        words = [f"hydra/launcher={choice}", "name=mine", *overrides]
        return hydra.compose("config", words, return_hydra_config=True).hydra.launcher


def test_the_launchers_of_the_documentation_are_the_files():
    assert sorted(p.stem for p in (conf_dir() / "hydra" / "launcher").glob("*.yaml")) == sorted(
        ["ray_1xh100", "ray_cpu", *SLURM]
    )


@pytest.mark.parametrize("choice", SLURM)
def test_a_slurm_launcher_composes_with_its_resources(choice):
    node = launcher(choice, "hydra.launcher.partition=gpu", "hydra.launcher.account=mine")
    assert node._target_ == "hydra_plugins.cosmos_exp_slurm.SlurmLauncher"
    assert {key: node[key] for key in SLURM[choice]} == SLURM[choice]
    assert (node.nodes, node.tasks_per_node, node.partition, node.account) == (1, 1, "gpu", "mine")
    assert compose_config([f"hydra/launcher={choice}"]).hardware == compose_config([]).hardware


@pytest.mark.parametrize("choice", SLURM)
def test_slurm_gets_these_resources(choice, tmp_path):
    """The batch script; tests/slurm gives it to a real Slurm."""
    words = ["hydra.launcher.partition=gpu", "hydra.launcher.additional_parameters={mail-user: a@b.org}"]
    settings = hydra.utils.instantiate(launcher(choice, *words, "hydra.launcher.array_parallelism=3")).settings
    script = batch_script(tmp_path, 20, settings)
    lines = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")}
    own = SLURM[choice]
    wanted = {f"cpus-per-task={own['cpus_per_task']}", f"mem={own['mem_gb'] * 1024}M", f"time={own['timeout_min']}"}
    wanted |= {"partition=gpu", "mail-user=a@b.org", "array=0-19%3", "requeue", "signal=B:USR1@120", "job-name=mine"}
    wanted |= {f"gpus-per-node={own['gpus_per_node']}"} if "gpus_per_node" in own else set()
    assert wanted <= lines
    assert f"{sys.executable} -m cosmos_exp run" in script
    assert "srun" not in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    several = batch_script(tmp_path, 1, {**settings, "nodes": 2})
    assert "srun --ntasks-per-node=1" in several
    assert "#SBATCH --nodes=2" in several


def test_a_configuration_with_a_secret_is_not_written_for_a_job(small_config, tmp_path):
    config = small_config(f"run_dir={tmp_path}", "judge=server", "judge.url=http://me:hunter2secret@host/v1")
    with pytest.raises(UserError, match="looks like a secret"):
        start_jobs([config], {})


def test_machines_and_nodes_agree(small_config, tmp_path):
    config = small_config(f"run_dir={tmp_path}", "hardware.num_machines=2")
    with pytest.raises(UserError, match=r"hydra\.launcher\.nodes=3, but hardware\.num_machines is 2"):
        start_jobs([config], {"nodes": 3})


def test_the_ray_launcher_composes_or_says_how_to_install_it():
    if importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None:
        with pytest.raises(UserError, match=r"pip install 'cosmos-exp\[ray\]'"):
            compose_config(["hydra/launcher=ray_1xh100"])
        return
    node = launcher("ray_1xh100")
    assert node._target_ == "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"
    assert (node.ray.remote.num_gpus, node.ray.remote.num_cpus) == (1, 8)


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
