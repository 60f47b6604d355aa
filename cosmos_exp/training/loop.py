"""The training loop, by zoom level: `train` is cadence, `train_step` accumulates, sums over processes, clips, steps."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from cosmos_exp.distributed import Processes
from cosmos_exp.errors import Interrupted, RunError
from cosmos_exp.files import append_json_line, read_json_lines, write_json_lines
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.training import checkpoint, checks
from cosmos_exp.training.figures import StepFigures
from cosmos_exp.training.optimizer import make_optimizer
from cosmos_exp.training.prefetch import Prefetcher
from cosmos_exp.training.samples import SampleSource
from cosmos_exp.training.schedule import StepPlan, learning_rate, power_ema_exponent
from cosmos_exp.training.speed import SpeedMeter
from cosmos_exp.training.stopping import StopRequest
from cosmos_exp.world.fast_forward import fast_forward
from cosmos_exp.world.rectified_flow import flow_loss, velocity


class Trainer:
    """One adapter's training. `log(name, values, step)` mirrors what is written to the run folder."""

    def __init__(
        self,
        config: Any,
        transformer: nn.Module,
        parameters: dict[str, nn.Parameter],
        source: SampleSource,
        validation: SampleSource | None,
        plan: StepPlan,
        folder: RunFolder,
        processes: Processes,
        log: Callable[[str, dict[str, Any], int], None],
        checkpointing: str | list[str] = "none",
        meter: SpeedMeter | None = None,
    ):
        self.config, self.training, self.transformer = config, config.training, transformer
        self.parameters, self.source, self.validation = parameters, source, validation
        self.plan, self.folder, self.processes, self.log = plan, folder, processes, log
        self.precision = config.hardware.mixed_precision
        self.pixels = (config.data.height, config.data.width)
        self.forward = fast_forward(transformer, config.hardware.compile, checkpointing)
        self.plain = fast_forward(transformer) if config.hardware.compile else self.forward
        self.optimizer = make_optimizer(list(parameters.values()), self.training, config.approximate.adamw_8bit)
        self.ema = None if self.training.ema_power is None else {n: p.detach().clone() for n, p in parameters.items()}
        self.step = 0
        self.summary: dict[str, Any] = {}
        self.meter = meter or SpeedMeter(None, processes.device)
        # On a GPU a step's figures are read while the next one runs; whoever needs them at once (a checkpoint) waits.
        self.lag = 1 if processes.device.type == "cuda" else 0
        self.unread: deque[StepFigures] = deque()

    # --- cadence ------------------------------------------------------------------------------------------------
    def train(self) -> dict[str, Any]:
        """Train from the newest checkpoint, or from the start, to the last step. Returns the training summary.

        Raises:
            Interrupted: asked to stop; a checkpoint was written.
            RunError: a loss or gradient is not finite, or a check failed.
        """
        torch.set_grad_enabled(True)  # cosmos_guardrail, where installed, switches it off as diffusers is imported
        self._resume()
        with StopRequest().listening() as stop, self._progress() as bar:
            if self.step == 0:
                self._start_checks()
                self._validate()
            self.transformer.train()
            self.start_batches()
            try:
                while self.step < self.plan.num_steps:
                    self._advance(stop, bar)
            finally:
                self.batches.close()
        self._finish()
        return self.summary

    def _advance(self, stop: StopRequest, bar: Any) -> None:
        """One step, and what is due after it."""
        self.unread.append(self.train_step(stop))
        self.step += 1
        last = self.step == self.plan.num_steps
        validate = last or self.step % self.training.validation.every_steps == 0
        save = last or self.step % self.training.checkpoint_every_steps == 0
        stopped = self._read_figures(0 if validate or save else self.lag, bar)
        if stopped:
            self._read_figures(0, bar)
        if validate:
            self._validate()
        if save or stopped:
            self.save_checkpoint()
        if stopped and not last:
            raise Interrupted(f"stopped after step {self.step} of {self.plan.num_steps}, checkpoint written")

    def _read_figures(self, leave: int, bar: Any) -> bool:
        """Record all steps but the newest `leave`; whether anybody was asked to stop."""
        stopped = False
        while len(self.unread) > leave:
            figures = self.unread.popleft()
            loss, norm, asked = figures.read(lambda video: self.source.clips[video].clip.path)
            samples = len(figures.batch)
            row = {
                "step": figures.number + 1,
                "samples": self.plan.samples_before(figures.number) + samples,
                "loss": loss,
                "lr": figures.rate,
                "grad_norm": norm,
                **self.meter.row(figures.began, samples, self.processes.size),
            }
            self._record(row, bar)
            stopped = stopped or asked
        return stopped

    # --- one optimizer step -------------------------------------------------------------------------------------
    def _work(self) -> Iterator[list[tuple[int, int]]]:
        """This process's forward passes from the present step on: the samples of each."""
        for step in range(self.step, self.plan.num_steps):
            mine = self.processes.shard(self.plan.batch(step))
            yield from _pieces(mine, self.config.hardware.samples_per_forward)

    def start_batches(self) -> None:
        """Begin to make batches ready, from the present step on."""
        ahead = 0 if self.source.encoders else 2
        self.batches = Prefetcher(self.source.batch, self._work(), self.processes.device, ahead)

    def train_step(self, stop: StopRequest) -> StepFigures:
        """Accumulate this process's share of the global batch, sum over processes, clip, step. Waits for nothing."""
        batch = self.plan.batch(self.step)
        rate = learning_rate(self.plan.samples_before(self.step), self.training)
        figures = StepFigures(self.step, batch, rate, time.perf_counter())
        losses = torch.zeros(len(batch), device=self.processes.device)
        mine = self.processes.shard(list(range(len(batch))))
        for slots in _pieces(mine, self.config.hardware.samples_per_forward):
            _, data = next(self.batches)
            with self._autocast():
                loss = flow_loss(self.forward, data, self.training.condition_timestep, self.pixels)
            (loss.sum() / len(batch)).backward()
            losses[slots[0] : slots[-1] + 1 : self.processes.size] = loss.detach()
        asked, losses = self._sum_over_processes(losses, stop.asked)
        figures.send(losses, self._optimize(rate), asked)
        return figures

    def _sum_over_processes(self, losses: torch.Tensor, asked: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """One sum for all: gradients, each sample's loss, and whether anybody was asked to stop."""
        flag = torch.full((1,), float(asked), device=losses.device)
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.processes.size == 1:
            return flag, losses
        parts = [*(p.grad for p in self.parameters.values()), losses, flag]
        flat = self.processes.all_reduce_(torch.cat([p.reshape(-1) for p in parts]))
        pieces = flat.split([p.numel() for p in parts])
        for part, piece in zip(parts, pieces, strict=True):
            part.copy_(piece.view_as(part))
        return flag, losses

    def _optimize(self, rate: float) -> torch.Tensor:
        """Clip and step; the gradient's norm before clipping. A norm that is not finite is told when it is read."""
        if self.training.zero_nonfinite_grads:
            for parameter in self.parameters.values():
                torch.nan_to_num_(parameter.grad, nan=0.0, posinf=0.0, neginf=0.0)
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.training.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            exponent = power_ema_exponent(self.training.ema_power)
            beta = (1 - 1 / (self.step + 1)) ** (exponent + 1)
            for name, parameter in self.parameters.items():
                self.ema[name].lerp_(parameter.detach(), 1 - beta)
        return norm

    # --- helpers ------------------------------------------------------------------------------------------------
    def _autocast(self) -> Any:
        if self.precision == "no":
            return contextlib.nullcontext()
        return torch.autocast(self.processes.device.type, dtype=torch.bfloat16)

    @torch.no_grad()
    def _check_velocity(self) -> torch.Tensor:
        with self._autocast():
            batch = self.source.fixed(0, 0.5, 0, self.processes.device)
            return velocity(self.plain, batch, self.training.condition_timestep, self.pixels)[0]

    def _start_checks(self) -> None:
        rates = [learning_rate(self.plan.samples_before(s), self.training) for s in range(self.plan.num_steps)]
        if not max(rates) > 0:
            raise RunError(
                "check failed: no step has a learning rate above 0; set training.schedule.warmup_samples=0 or more steps"
            )
        checks.check_trainable(self.transformer, self.parameters, self.config.adapter)
        change = checks.check_untouched(self.transformer, self._check_velocity, self.precision)
        with torch.no_grad(), self._autocast():
            batch = self.source.batch(self.plan.batch(0)[:1], self.processes.device)
            loss = flow_loss(self.plain, batch, self.training.condition_timestep, self.pixels).item()
        checks.check_first_loss(loss, self.config.model.max_first_loss)
        if self.processes.is_main:
            self.folder.update_manifest(checks={"untouched_adapter_change": change, "first_loss": loss})

    @torch.no_grad()
    def _validate(self) -> None:
        """Mean loss over held-out clips at fixed sigmas and noise; the clips are shared among processes."""
        if self.validation is None:
            return
        sigmas = self.training.validation.sigmas
        cells = [(c, s) for c in range(len(self.validation.clips)) for s in range(len(sigmas))]
        losses = torch.zeros(len(cells), device=self.processes.device)
        was_training = self.transformer.training
        self.transformer.eval()
        for index in self.processes.shard(list(range(len(cells)))):
            clip, level = cells[index]
            with self._autocast():
                batch = self.validation.fixed(clip, sigmas[level], index, self.processes.device)
                losses[index] = flow_loss(self.forward, batch, self.training.condition_timestep, self.pixels)[0]
        self.transformer.train(was_training)
        table = self.processes.all_reduce_(losses).view(-1, len(sigmas))
        row = {"step": self.step, "validation_loss": table.mean().item()}
        row |= {f"validation_loss_sigma_{s:g}": table[:, i].mean().item() for i, s in enumerate(sigmas)}
        self.summary["validation_loss"] = row["validation_loss"]
        self.summary.setdefault("first_validation_loss", row["validation_loss"])
        if self.processes.is_main:
            append_json_line(self.folder.validation_log, row)
            self.log("validation", row, self.step)

    def _record(self, row: dict[str, Any], bar: Any) -> None:
        if not self.processes.is_main:
            return
        append_json_line(self.folder.train_log, row)
        self.log("train", row, row["step"])
        bar.set_postfix(loss=f"{row['loss']:.4f}", lr=f"{row['lr']:.2e}", sps=f"{row['samples_per_second']:.2f}")
        bar.update(1)

    def _progress(self) -> Any:
        return tqdm(
            total=self.plan.num_steps,
            initial=self.step,
            desc="training",
            unit="step",
            disable=None if self.processes.is_main else True,
        )

    # --- checkpoints --------------------------------------------------------------------------------------------
    def save_checkpoint(self) -> None:
        """Write what resuming needs; main process only, the state is the same in all."""
        if self.processes.is_main:
            state = {
                "adapter": {n: p.detach().cpu() for n, p in self.parameters.items()},
                "optimizer": self.optimizer.state_dict(),
                "summary": self.summary,
                "ema": None if self.ema is None else {n: p.cpu() for n, p in self.ema.items()},
            }
            checkpoint.save(self.folder.checkpoints, self.step, state, self.training.keep_checkpoints)
        self.processes.barrier()

    def _resume(self) -> None:
        state = checkpoint.load_newest(self.folder.checkpoints)
        if state is not None:
            for name, value in state["adapter"].items():
                self.parameters[name].data.copy_(value)
            self.optimizer.load_state_dict(state["optimizer"])
            if self.ema is not None and state["ema"] is not None:
                self.ema = {n: v.to(self.processes.device) for n, v in state["ema"].items()}
            self.step, self.summary = state["step"], state["summary"]
        if self.processes.is_main:
            for log, keep in (
                (self.folder.train_log, self.step),
                (self.folder.validation_log, self.step if self.step else -1),
            ):
                rows = read_json_lines(log)
                if rows:
                    write_json_lines(log, [r for r in rows if r["step"] <= keep])
        self.processes.barrier()

    def _finish(self) -> None:
        """Take the averaged adapter if there is one, check that it does something, sum up."""
        if self.ema is not None:
            for name, parameter in self.parameters.items():
                parameter.data.copy_(self.ema[name])
        self.transformer.eval()
        self.summary["trained_adapter_change"] = checks.check_learned(self.transformer, self._check_velocity)
        self.summary["trainable_parameters"] = sum(p.numel() for p in self.parameters.values())
        self.summary["steps"] = self.plan.num_steps
        self.summary["samples"] = self.plan.samples_before(self.plan.num_steps)
        rows = read_json_lines(self.folder.train_log) if self.processes.is_main else []
        if rows:
            tail = rows[-max(1, len(rows) // 10) :]
            self.summary["train_loss"] = sum(r["loss"] for r in tail) / len(tail)
            self.summary["train_seconds"] = sum(r["seconds"] for r in rows)
            self.summary["samples_per_second"] = self.summary["samples"] / max(self.summary["train_seconds"], 1e-9)
            self.summary |= self.meter.summary(rows)


def _pieces(items: list, size: int) -> Iterator[list]:
    return (items[first : first + size] for first in range(0, len(items), size))
