"""A run on several machines: two "machines" of one process on this host, started by torchrun."""

import os
import signal
import subprocess
import sys

from conftest import ROOT, SMALL, free_port, settled, wait_until

from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder


def test_several_machines_need_a_launcher(answered, tmp_path):
    answered(
        ["run", *SMALL, "hardware.num_machines=2", f"run_dir={tmp_path / 'run'}"],
        2,
        "on each machine with `torchrun --nnodes=2 --nproc-per-node=1",
    )
    assert not (tmp_path / "run").exists()


def test_two_machines_are_one_run(tmp_path, start, monkeypatch):
    """Two commands in different working directories are one run. SIGTERM to one stops both; again, both resume."""
    folder, port = RunFolder(tmp_path / "run"), free_port()
    words = ["run", *SMALL, "hardware.num_machines=2", "training.max_steps=12", "training.epochs=20"]
    words += [f"run_dir={folder.path}", "training.checkpoint_every_steps=100"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d"]
    command += [f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=1", "-m", "cosmos_exp", *settled(words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    machines = []
    for machine in "ab":
        (tmp_path / machine).mkdir()
        with open(tmp_path / machine / "log.txt", "ab") as log:
            machines.append(subprocess.Popen(command, cwd=tmp_path / machine, env=environment, stdout=log, stderr=log))

    def said():
        return [(tmp_path / machine / "log.txt").read_text()[-2000:] for machine in "ab"]

    wait_until(lambda: read_json_lines(folder.train_log) or any(m.poll() is not None for m in machines))
    machines[1].send_signal(signal.SIGTERM)
    for machine in machines:
        assert machine.wait(100) != 0, said()
    assert folder.status["state"] == "interrupted"

    # Again, with the variables that torchrun sets, from the fork server: another torchrun would import for 20 seconds.
    again = []
    for rank, machine in enumerate("ab"):
        variables = {"RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        again.append(start(*words, log=tmp_path / machine / "log.txt", cwd=tmp_path / machine))
    for machine in again:
        assert machine.wait(300) == 0, said()
    assert folder.status["state"] == "done"
    assert folder.manifest["processes"] == 2
    assert [r["step"] for r in read_json_lines(folder.train_log)] == list(range(1, 13))
    assert len(list(folder.videos.glob("*.mp4"))) == 2
    assert not any((tmp_path / machine / "outputs").exists() for machine in "ab")
