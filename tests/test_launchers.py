"""Every file of conf/hydra/launcher through Hydra and its plugin, and sweeps/wandb as generated from sweeps/."""

import importlib.util
import subprocess

import hydra
import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

from cosmos_exp.config.composing import compose_config, register
from cosmos_exp.config.paths import conf_dir, sweeps_dir
from cosmos_exp.errors import UserError
from cosmos_exp.sweep import wandb_sweep as wandb

SLURM = {
    "slurm_1xh100": {"gpus_per_node": 1, "cpus_per_task": 16, "mem_gb": 128, "timeout_min": 1440},
    "slurm_8xh100": {"gpus_per_node": 8, "cpus_per_task": 96, "mem_gb": 900, "timeout_min": 720},
}
SUBMITIT = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
# Sweeps by arms have phases, which wandb does not know.
SWEEPS = sorted(p.stem for p in (sweeps_dir() / "wandb").glob("*.yaml"))


def launcher(choice, *overrides):
    """The composed `hydra.launcher` of hydra/launcher=choice."""
    register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="cosmos-exp"):
        words = [f"hydra/launcher={choice}", "name=mine", *overrides]
        return hydra.compose("config", words, return_hydra_config=True).hydra.launcher


def test_the_launchers_of_the_documentation_are_the_files():
    assert sorted(p.stem for p in (conf_dir() / "hydra" / "launcher").glob("*.yaml")) == ["ray_1xh100", *SLURM]


@pytest.mark.parametrize("choice", SLURM)
def test_a_slurm_launcher_composes_with_its_resources(choice):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'cosmos-exp[slurm]'")
    node = launcher(choice, "hydra.launcher.partition=gpu", "hydra.launcher.account=mine")
    assert node._target_ == SUBMITIT
    assert {key: node[key] for key in SLURM[choice]} == SLURM[choice]
    assert (node.nodes, node.tasks_per_node, node.partition, node.account) == (1, 1, "gpu", "mine")
    assert compose_config([f"hydra/launcher={choice}"]).hardware == compose_config([]).hardware
    assert node.submitit_folder.startswith("outputs/sweeps/mine/")  # no folder beside outputs/


@pytest.mark.parametrize("choice", SLURM)
def test_slurm_gets_these_resources(choice, tmp_path, monkeypatch):
    """The launcher hands its settings to submitit, which writes the batch script. sbatch and srun are stand-ins."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'cosmos-exp[slurm]'")
    import submitit

    commands = tmp_path / "bin"
    commands.mkdir()
    for name, lines in (("srun", "exit 0"), ("sbatch", f'cp "$1" {tmp_path}/script.sh; echo Submitted batch job 12')):
        (commands / name).write_text(f"#!/bin/sh\n{lines}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=":")

    settings = hydra.utils.instantiate(launcher(choice, "hydra.launcher.partition=gpu")).params
    general = {"timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name"}
    general.add("stderr_to_stdout")
    executor = submitit.AutoExecutor(str(tmp_path / "jobs"), cluster="slurm", slurm_max_num_timeout=0)
    own = {k: v for k, v in settings.items() if k not in ("submitit_folder", "max_num_timeout")}
    executor.update_parameters(**{k if k in general else f"slurm_{k}": v for k, v in own.items()})
    assert executor.submit(subprocess.run, ["true"]).job_id == "12"

    script = (tmp_path / "script.sh").read_text()
    lines = {line for line in script.splitlines() if line.startswith("#SBATCH")}
    wanted = SLURM[choice]
    assert {
        f"#SBATCH --gpus-per-node={wanted['gpus_per_node']}",
        f"#SBATCH --cpus-per-task={wanted['cpus_per_task']}",
        f"#SBATCH --mem={wanted['mem_gb']}GB",
        f"#SBATCH --time={wanted['timeout_min']}",
        "#SBATCH --partition=gpu",
    } <= lines


def test_the_ray_launcher_composes_or_says_how_to_install_it():
    if importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None:
        with pytest.raises(UserError, match=r"pip install 'cosmos-exp\[ray\]'"):
            compose_config(["hydra/launcher=ray_1xh100"])
        return
    node = launcher("ray_1xh100")
    assert node._target_ == "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"
    assert (node.ray.remote.num_gpus, node.ray.remote.num_cpus) == (1, 8)


@pytest.mark.parametrize("name", SWEEPS)
def test_the_wandb_sweeps_are_as_generated(name):
    text = (sweeps_dir() / "wandb" / f"{name}.yaml").read_text()
    assert text == wandb.wandb_sweep_text(name), "run `python -m cosmos_exp.sweep.wandb_sweep`"
    assert yaml.safe_load(text) == wandb.wandb_sweep(name)


def test_every_wandb_sweep_belongs_to_a_sweep(capsys):
    assert wandb.main(["--check"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_sweep_of_ones_own_becomes_a_wandb_sweep(tmp_path):
    """Choices of groups, fixed keys and swept values of all kinds; the values keep the words of the command line."""
    sweep = {
        "defaults": ["config", "_self_", {"override /judge": "rules"}],
        "training": {"max_steps": 1, "ema_power": None, "schedule": {"f_max": 0.5}},
        "tracking": {"project": "theirs"},
        "dry_run": False,
        "hydra": {
            "sweeper": {"params": {"rank": "'8',16", "seed": "range(3)", "training.learning_rate": "1e-3,0.002"}}
        },
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    made = wandb.wandb_sweep("mine", tmp_path)
    assert (made["name"], made["project"]) == ("mine", "theirs")
    assert made["parameters"] == {
        "name": {"value": "mine"},
        "judge": {"value": "rules"},
        "training.max_steps": {"value": "1"},
        "training.ema_power": {"value": "null"},
        "training.schedule.f_max": {"value": "0.5"},
        "tracking.project": {"value": "theirs"},
        "dry_run": {"value": "false"},
        "rank": {"values": ["8", "16"]},
        "seed": {"values": ["0", "1", "2"]},
        "training.learning_rate": {"values": ["0.001", "0.002"]},
    }
    sweep["generation"] = {"seeds": [0, 1]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    with pytest.raises(UserError, match=r"generation\.seeds: a W&B sweep cannot pass on a list"):
        wandb.wandb_sweep("mine", tmp_path)
