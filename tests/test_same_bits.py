"""The number of processes changes the time, not one bit of the result: losses, adapter file, resumed runs."""

import functools
import itertools
import os
import queue
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, gone, long_test, program, wait_until, workers

from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.distributed import Processes
from cosmos_exp.errors import RunError
from cosmos_exp.experiment.launching import LAUNCHER, launched
from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.training.gradients import TreeSum, cut_into_slots, is_power_of_two, share, subtrees
from cosmos_exp.training.plan import num_buffers
from cosmos_exp.world.kernels import attention_kernel, choose_kernels, deterministic_kernels


def test_the_processes_divide_the_slots_in_order_and_evenly():
    assert cut_into_slots(range(7), 3) == [range(3), range(3, 6), range(6, 7)]  # whatever the number of processes
    for size, slots in itertools.product(range(1, 18), range(1, 40)):
        parts = [share(rank, size, slots) for rank in range(size)]
        assert [slot for part in parts for slot in range(*part)] == list(range(slots))
        assert max(stop - start for start, stop in parts) == -(-slots // size)
        for part in parts:
            nodes = subtrees(part, (0, slots))
            assert [slot for node in nodes for slot in range(*node)] == list(range(*part))
            assert len(nodes) <= 1 or not is_power_of_two(size)
    assert [num_buffers(slots) for slots in (1, 2, 3, 4, 5, 8, 9, 64)] == [2, 2, 3, 3, 4, 4, 5, 7]


class Partner:
    """A process of a group whose processes are threads: what `Processes` does, through queues."""

    def __init__(self, rank, size, lines):
        self.rank, self.size, self.lines = rank, size, lines

    def exchange(self, partner, sent, received):
        if sent is not None:
            self.lines[self.rank, partner].put(sent.clone())
        if received is not None:
            received.copy_(self.lines[partner, self.rank].get(timeout=10))

    def broadcast_(self, tensor, source):
        if self.rank != source:
            self.exchange(source, None, tensor)
            return tensor
        for other in range(self.size):
            if other != self.rank:
                self.exchange(other, tensor, None)
        return tensor


def summed(gradients, size):
    """The sum that each of `size` processes ends with. `gradients`: (slots, numbers) fp32."""
    numbers, found = gradients.shape[1], [None] * size
    lines = {pair: queue.Queue() for pair in itertools.product(range(size), repeat=2)}

    def work(rank):
        parameters = {name: torch.nn.Parameter(torch.zeros(n)) for name, n in (("a", 1), ("b", numbers - 1))}

        def backward(slot):
            (parameters["a"] @ gradients[slot, :1] + parameters["b"] @ gradients[slot, 1:]).backward()

        TreeSum(parameters, Partner(rank, size, lines)).run(len(gradients), backward)
        found[rank] = torch.cat([p.grad for p in parameters.values()])

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def tree(rows):
    """The definition, in numpy: halves of halves, the first one larger by one if the number is odd."""
    if len(rows) == 1:
        return rows[0]
    cut = -(-len(rows) // 2)
    return tree(rows[:cut]) + tree(rows[cut:])


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8, 13])
def test_every_number_of_processes_adds_along_the_same_tree(slots):
    gradients = torch.randn(slots, 50, generator=torch.Generator().manual_seed(slots))
    expected = tree(list(gradients.numpy()))
    for size in (1, 2, 3, 4, 5, 8):
        for got in summed(gradients, size):
            assert got.numpy().tobytes() == expected.tobytes(), f"{size} processes"


def test_deterministic_kernels_are_asked_for_inside_the_block_alone(monkeypatch, small_config):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    choose_kernels(small_config())
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    with deterministic_kernels():
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()  # else flash attention would ignore it
    assert not torch.are_deterministic_algorithms_enabled()
    # The record is of the kernel that training uses: PyTorch's choice on an H100 depends on the mode.
    choose, modes = torch._fused_sdp_choice, []
    monkeypatch.setattr(
        torch,
        "_fused_sdp_choice",
        lambda *q: (modes.append(torch.are_deterministic_algorithms_enabled()), choose(*q))[1],
    )
    shape = SimpleNamespace(config=SimpleNamespace(num_attention_heads=2, attention_head_dim=16))
    for mode in (True, False):
        assert attention_kernel(shape, torch.float32, torch.device("cpu"), mode) == "FLASH_ATTENTION"
    assert modes == [True, False]
    with pytest.raises(RunError, match=r"Set training\.deterministic=false"), deterministic_kernels():
        raise RuntimeError("x does not have a deterministic implementation.\nSee the documentation")
    assert stage_hash(small_config("training.deterministic=false")) != stage_hash(small_config())


# A whole run of a transformer of one block: 11 training videos, so that every second step has 3 samples instead of 8.
MICRO = [
    "data.train_clips=12",
    "data.validation_videos=1",
    "data.test_pairs=1",
    "data.windows_per_video=1",
    "data.height=32",
    "data.width=48",
    "model.weights=random",
    "model.max_first_loss=null",
    "model.transformer.num_layers=1",
    "model.transformer.num_attention_heads=2",
    "adapter.rank=4",
    "training.global_batch_size=8",
    "training.max_steps=30",
    "training.validation.every_steps=15",
    "training.checkpoint_every_steps=12",
    "training.schedule.warmup_samples=2",
    "hardware.samples_per_forward=1",
    "hardware.num_threads=1",
    "tracking=none",
    "generation.split=none",
]


def curves(folder):
    """Losses, gradient norms and validation losses, in full precision."""
    rows = read_json_lines(folder.train_log)
    validation = [[r["step"], r["validation_loss"]] for r in read_json_lines(folder.validation_log)]
    return [[r["step"], r["samples"], r["loss"], r["grad_norm"]] for r in rows], validation


@pytest.fixture(scope="module")
def trained(finished, tmp_path_factory):
    """trained(kind): the words of a run of one kind of adapter, and a run of them in one process."""

    @functools.cache
    def call(kind):
        words = [*MICRO, f"adapter={kind}"]
        folder, log = RunFolder(tmp_path_factory.mktemp(kind) / "run"), tmp_path_factory.mktemp("log") / "log.txt"
        finished("run", *words, f"run_dir={folder.path}", log=log)
        samples = [row[1] for row in curves(folder)[0]]
        assert samples[:4] == [8, 11, 19, 22]  # batches of 8 and of 3
        assert len(samples) == 30
        return words, folder

    return call


def assert_same(folder, expected):
    """The same curves and the same adapter file, byte for byte."""
    assert curves(folder) == curves(expected)
    assert folder.adapter_file.read_bytes() == expected.adapter_file.read_bytes()


@pytest.mark.parametrize(("kind", "count"), [("lora", 4), pytest.param("dora", 3, marks=long_test)])
def test_any_number_of_processes_gives_the_same_bytes(kind, count, trained, cli, tmp_path):
    words, expected = trained(kind)
    folder = RunFolder(tmp_path / "run")
    assert cli("run", *words, f"run_dir={folder.path}", f"hardware.num_processes={count}") == 0
    assert folder.manifest["processes"] == count
    assert_same(folder, expected)


@long_test
def test_accelerates_launcher_gives_the_same_bytes(trained, tmp_path):
    """Without run_dir: all processes use the folder that the first one chose. torchrun's: tests/test_machines.py."""
    words, expected = trained("lora")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "cosmos_exp"]
    command += ["run", *words, "hardware.num_processes=2"]
    done = program(*command, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = (tmp_path / "outputs" / "run").iterdir()
    assert RunFolder(path).manifest["processes"] == 2
    assert_same(RunFolder(path), expected)
    assert done.stdout.count("run folder: ") == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "RANK=0, WORLD_SIZE=2: set in the environment, but no launcher"),
        (
            dict.fromkeys(LAUNCHER, "0") | {"WORLD_SIZE": "2"},
            "the launcher started 2 processes, but hardware.num_processes times hardware.num_machines is 1",
        ),
    ],
)
def test_what_a_shell_has_left_and_another_number_of_processes_are_named(values, said, answered, monkeypatch):
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    answered(["run", *MICRO], 2, said)


def test_what_a_launcher_of_one_process_has_left_is_ignored(monkeypatch):
    for name in (*LAUNCHER, "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.setenv(name, "2" if name.startswith("OMPI") else "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # as Ray sets it for a run of three cores
    assert not launched()
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    processes = Processes("cpu", 1)
    assert (processes.is_main, torch.get_num_threads()) == (True, 3)
    processes.close()
    torch.set_num_threads(threads)


def preempt(cli, folder, words, count, rank, when):
    """Run with `count` processes and send SIGTERM to one of them when `when()`. All must end within 30 s."""
    ranks, sent = [], []

    def terminate():
        wait_until(when, seconds=350, every=0.002)
        ranks.extend(workers(count))
        ranks[rank].terminate()
        sent.append(time.monotonic())

    thread = threading.Thread(target=terminate)
    thread.start()
    code = cli("run", *words, f"run_dir={folder.path}", f"hardware.num_processes={count}")
    assert time.monotonic() - sent[0] < 30
    thread.join()
    assert code == 1, "it was done before the signal came"
    assert folder.status["state"] == "interrupted", folder.status
    assert all(map(gone, ranks))


def test_begun_on_two_resumed_on_four_finished_on_one(trained, cli, finished, tmp_path):
    """Preempted twice by SIGTERM to one worker: the state is `interrupted`, and the bytes are the same in the end."""
    words, expected = trained("dora")
    folder, log = RunFolder(tmp_path / "run"), tmp_path / "log.txt"
    for count, rank, step in ((2, 1, 5), (4, 2, 14)):
        preempt(cli, folder, words, count, rank, lambda step=step: len(read_json_lines(folder.train_log)) >= step)
        steps = len(read_json_lines(folder.train_log))
        assert step <= steps < 30
        assert (folder.checkpoints / f"step_{steps:08d}").is_dir()
    finished("run", *words, f"run_dir={folder.path}", log=log)
    assert_same(folder, expected)


def test_sigterm_to_one_worker_in_generation_is_an_interruption_too(cli, tmp_path):
    folder = RunFolder(tmp_path / "run")
    words = [*MICRO[:-1], "training.max_steps=2", "generation.num_steps=100", "generation.seeds=[0,1,2,3]"]
    preempt(cli, folder, words, 2, 1, lambda: folder.status.get("stage") == "generate")
    assert folder.status["error"] == "stopped by SIGTERM"
