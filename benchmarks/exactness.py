"""What it costs that the number of processes does not change the result: a training step with the gradients added along
a tree (pairwise exchanges) beside one with a plain all_reduce, in turn, in the same two processes.

    python benchmarks/exactness.py [--model mid] [--batch 2] [--repeats 7]

The step is that of the run's own Trainer; only the sum of the gradients differs. gloo on a CPU, one thread a process.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import machine_line, ratios, table, write
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from train_step import COMMON, MODELS, Ours

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.context import RunContext
from cosmos_exp.distributed import Processes
from cosmos_exp.experiment.checks import check_inputs
from cosmos_exp.experiment.prepare import prepare
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.training.gradients import TreeSum, share

PROCESSES = 2


class PlainSum(TreeSum):
    """As before the tree: autograd adds a process's slots in sequence, and one all_reduce adds the processes."""

    def run(self, slots: int, backward: Any) -> None:
        for slot in range(*share(self.processes.rank, self.processes.size, slots)):
            backward(slot)
        self._fill()
        flat = self.processes.all_reduce_(torch.cat([p.grad.reshape(-1) for p in self.parameters]))
        pieces = flat.split([p.numel() for p in self.parameters])
        for parameter, piece in zip(self.parameters, pieces, strict=True):
            parameter.grad.copy_(piece.view_as(parameter))


def worker(words: list[str], folder: str, repeats: int) -> None:
    """One of the processes: alternate both sums, a step each; the first process writes the seconds."""
    config = compose_config(words)
    processes = Processes("cpu", PROCESSES, 1)
    prepared = prepare(RunContext(config, RunFolder(folder), processes))
    ours = Ours(config, prepared, Path(folder), processes.device, processes)
    trainer = ours.trainer
    sums = {"all_reduce": PlainSum(trainer.model.parameters, processes), "tree": trainer.gradients}
    seconds: dict[str, list[float]] = {name: [] for name in sums}
    for turn in range(-1, repeats):
        for name in sums if turn % 2 else reversed(sums):
            trainer.gradients = sums[name]
            processes.barrier()
            began = time.perf_counter()
            ours.step()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    if processes.is_main:
        numbers = sum(p.numel() for p in trainer.model.parameters.values())
        Path(folder, "seconds.json").write_text(json.dumps({"seconds": seconds, "numbers": numbers}))
    processes.close()


def main() -> int:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mid", choices=MODELS)
    parser.add_argument("--batch", type=int, default=2, help="samples of a step, one per forward pass")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    size = [f"training.global_batch_size={args.batch}", "hardware.samples_per_forward=1", "training.epochs=1000"]
    words = [*COMMON, *MODELS[args.model], "hardware=cpu", *size, f"hardware.num_processes={PROCESSES}"]
    check_inputs(compose_config(words))  # as a run's launching process: writes the model and the data
    with tempfile.TemporaryDirectory() as folder:
        job = (words, folder, args.repeats)
        run_id = {"run_id": "exactness", "rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
        settings = LaunchConfig(1, 1, PROCESSES, max_restarts=0, **run_id)
        elastic_launch(settings, worker)(*job)
        found = json.loads(Path(folder, "seconds.json").read_text())
    seconds = found["seconds"]
    ratio = ratios(seconds["tree"], seconds["all_reduce"])
    rows = [{"sum": name, "seconds": each} for name, each in seconds.items()]
    rows.append({"sum": "tree / all_reduce, turn by turn", "seconds": ratio})
    text = (
        f"{machine_line()}; model {args.model}, rank 32, {found['numbers'] / 1e6:.1f} M numbers, global batch {args.batch}, "
        f"{PROCESSES} processes, {args.repeats} turns: median (lowest to highest).\n\n{table(rows)}"
    )
    write("exactness_cpu", "The cost of exactness", text, found | {"ratio": ratio}, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
