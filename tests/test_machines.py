"""A run on several machines: where they meet, what they must share, and two "machines" of one process on this host."""

import socket

import pytest
from conftest import SMALL, settled, wait_until

from cosmos_exp.errors import UserError
from cosmos_exp.experiment.fork_server import start
from cosmos_exp.experiment.machines import first_host, this_machine
from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder

VARIABLES = {"MASTER_ADDR": "gpu1", "MASTER_PORT": "29500", "NODE_RANK": "1"}
SLURM = {"SLURM_NODEID": "1", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "gpu[07-09,12]", "SLURM_JOB_ID": "123456"}


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("gpu[07-09,12]", "gpu07"),
        ("gpu[3,5-9],login", "gpu3"),
        ("rack[1-2]n[04-06],x", "rack1n04"),
        ("a-b[1-2]-ib", "a-b1-ib"),
    ],
)
def test_the_first_host_of_a_node_list(nodes, first):
    assert first_host(nodes) == first


def test_machines_meet_where_the_variables_or_slurm_say():
    assert this_machine(2, VARIABLES) == (1, "gpu1:29500")
    assert this_machine(2, SLURM) == (1, "gpu07:23456")
    assert this_machine(2, {**SLURM, "MASTER_PORT": "1234"}) == (1, "gpu07:1234")
    assert this_machine(2, {**SLURM, **VARIABLES}) == (1, "gpu1:29500")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "MASTER_ADDR, MASTER_PORT, NODE_RANK not set. Start the same command on each machine"),
        ({"MASTER_ADDR": "gpu1", "NODE_RANK": "0"}, "num_machines=2: MASTER_PORT not set"),
        ({**VARIABLES, "NODE_RANK": "2"}, "NODE_RANK=2 must be a number from 0 to 1"),
        ({**VARIABLES, "MASTER_PORT": "http"}, "MASTER_PORT=http is not a number"),
        ({**SLURM, "SLURM_NNODES": "1"}, "the Slurm step runs on 1 node"),
        ({**SLURM, "SLURM_LOCALID": "1"}, "one task on each of 2 nodes"),
        ({k: v for k, v in SLURM.items() if k != "SLURM_JOB_NODELIST"}, "MASTER_ADDR not set"),
    ],
)
def test_an_error_names_what_is_missing(environment, said):
    with pytest.raises(UserError, match=r"hardware\.num_machines=2") as error:
        this_machine(2, environment)
    assert said in str(error.value)


def test_several_machines_need_a_folder_that_they_share(cli, capsys):
    assert cli("run", *SMALL, "hardware.num_machines=2") == 2
    assert "run_dir is not set. Give one folder that all machines share" in capsys.readouterr().err


def test_two_machines_are_one_run(tmp_path):
    """Two commands in different working directories are one run. SIGTERM to one stops both; again, both resume."""
    words = ["run", *SMALL, "sampson.enabled=false", "hardware.num_machines=2", "training.max_steps=12"]
    words += ["training.epochs=20", f"run_dir={tmp_path / 'run'}", "training.checkpoint_every_steps=100"]
    words, folder = settled(words), RunFolder(tmp_path / "run")
    logs = [tmp_path / f"machine{rank}" / "log.txt" for rank in range(2)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def both():
        for rank, log in enumerate(logs):
            log.parent.mkdir(exist_ok=True)
            own = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": str(rank), "OMP_NUM_THREADS": "1"}
            yield start("cosmos_exp.cli:main", (words,), environment=own, log=log, cwd=log.parent)

    children = list(both())
    wait_until(lambda: read_json_lines(folder.train_log) or any(c.poll() is not None for c in children))
    children[1].terminate()
    assert [c.wait(100) for c in children] == [1, 1], [log.read_text()[-2000:] for log in logs]
    assert folder.status["state"] == "interrupted"
    assert [c.wait(300) for c in list(both())] == [0, 0], [log.read_text()[-2000:] for log in logs]
    assert folder.status["state"] == "done"
    assert folder.manifest["processes"] == 2
    assert folder.manifest["hardware"]["num_machines"] == 2
    assert [r["step"] for r in read_json_lines(folder.train_log)] == list(range(1, 13))
    assert len(list(folder.videos.glob("*.mp4"))) == 2
    assert not any((log.parent / "outputs").exists() for log in logs)
