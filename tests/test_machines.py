"""A run on several machines: two "machines" of one process on this host."""

from conftest import SMALL, free_port, wait_until

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
    """Two commands in different working directories are one run. SIGTERM to one stops both; again, both resume.

    They have the variables that torchrun sets; it would import for 20 seconds.
    """
    folder, port = RunFolder(tmp_path / "run"), free_port()
    words = ["run", *SMALL, "hardware.num_machines=2", "training.max_steps=12", "training.epochs=20"]
    words += [f"run_dir={folder.path}", "training.checkpoint_every_steps=100"]
    logs = [tmp_path / "a" / "log.txt", tmp_path / "b" / "log.txt"]

    def with_variables(rank, log, port):
        variables = {"RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        return start(*words, log=log, cwd=log.parent)

    for log in logs:
        log.parent.mkdir()
    machines = [with_variables(rank, log, port) for rank, log in enumerate(logs)]
    # The second machine is the one that is asked to stop.
    wait_until(lambda: read_json_lines(folder.train_log) or folder.status.get("state") == "failed")
    machines[1].terminate()
    for machine in machines:
        assert machine.wait(100) != 0, [log.read_text()[-2000:] for log in logs]
    assert folder.status["state"] == "interrupted"

    port = free_port()
    for machine in [with_variables(rank, log, port) for rank, log in enumerate(logs)]:
        assert machine.wait(300) == 0, [log.read_text()[-2000:] for log in logs]
    assert folder.status["state"] == "done"
    assert folder.manifest["processes"] == 2
    assert [r["step"] for r in read_json_lines(folder.train_log)] == list(range(1, 13))
    assert len(list(folder.videos.glob("*.mp4"))) == 2
    assert not any((log.parent / "outputs").exists() for log in logs)
