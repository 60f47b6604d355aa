"""The training loop, by zoom level: `train` is cadence, `train_step` accumulates, sums over processes, clips, steps."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from cosmos_exp.errors import Interrupted, RunError
from cosmos_exp.processes import Processes
from cosmos_exp.run_folder import RunFolder, append_json_line, read_json_lines, write_json_lines
from cosmos_exp.training import checkpoint, checks
from cosmos_exp.training.samples import SampleSource
from cosmos_exp.training.schedule import StepPlan, learning_rate, power_ema_exponent
from cosmos_exp.world.rectified_flow import flow_loss, velocity
from cosmos_exp.world.transformer import fast_forward


class StopRequest:
    """Set by SIGTERM or the first Ctrl-C; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Listen while the block runs."""

        def ask(number: int, frame: Any) -> None:
            if self.asked and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.asked = True

        try:
            old = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # not the main thread
            old = {}
        try:
            yield self
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


class Trainer:
    """One adapter's training. `log(name, values, step)` mirrors what is written to the run folder."""

    def __init__(
        self, config: Any, transformer: nn.Module, parameters: dict[str, nn.Parameter], source: SampleSource,
        validation: SampleSource | None, plan: StepPlan, folder: RunFolder, processes: Processes,
        log: Callable[[str, dict[str, Any], int], None],
    ):  # fmt: skip
        self.config, self.training, self.transformer = config, config.training, transformer
        self.forward = fast_forward(transformer)
        self.parameters, self.source, self.validation = parameters, source, validation
        self.plan, self.folder, self.processes, self.log = plan, folder, processes, log
        self.precision = config.hardware.mixed_precision
        self.pixels = (config.data.height, config.data.width)
        self.optimizer = torch.optim.AdamW(
            list(parameters.values()), lr=self.training.learning_rate, weight_decay=self.training.weight_decay
        )
        self.ema = None if self.training.ema_power is None else {n: p.detach().clone() for n, p in parameters.items()}
        self.step = 0
        self.summary: dict[str, Any] = {}

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
            while self.step < self.plan.num_steps:
                row = self.train_step(stop)
                self.step += 1
                self._record(row, bar)
                if self.step % self.training.validation.every_steps == 0 or self.step == self.plan.num_steps:
                    self._validate()
                if (
                    row["stop"]
                    or self.step % self.training.checkpoint_every_steps == 0
                    or self.step == self.plan.num_steps
                ):
                    self.save_checkpoint()
                if row["stop"] and self.step < self.plan.num_steps:
                    raise Interrupted(f"stopped after step {self.step} of {self.plan.num_steps}, checkpoint written")
        self._finish()
        return self.summary

    # --- one optimizer step -------------------------------------------------------------------------------------
    def train_step(self, stop: StopRequest) -> dict[str, Any]:
        """Accumulate this process's share of the global batch, sum over processes, clip, step. Logs nothing."""
        began = time.perf_counter()
        batch = self.plan.batch(self.step)
        losses = torch.zeros(len(batch), device=self.processes.device)
        mine = self.processes.share(list(range(len(batch))))
        size = self.config.hardware.samples_per_forward
        for first in range(0, len(mine), size):
            slots = mine[first : first + size]
            data = self.source.batch([batch[i] for i in slots], self.processes.device)
            with self._autocast():
                loss = flow_loss(self.forward, data, self.training.condition_timestep, self.pixels)
            (loss.sum() / len(batch)).backward()
            losses[slots] = loss.detach()
        asked, losses = self._sum_over_processes(losses, stop.asked)
        self._stop_if_not_finite(losses, batch)
        rate = learning_rate(self.plan.samples_before(self.step), self.training)
        norm = self._optimize(rate)
        seconds = time.perf_counter() - began
        return {
            "step": self.step + 1, "samples": self.plan.samples_before(self.step) + len(batch),
            "loss": losses.mean().item(), "lr": rate, "grad_norm": norm, "seconds": seconds,
            "samples_per_second": len(batch) / seconds, "stop": asked,
        }  # fmt: skip

    def _sum_over_processes(self, losses: torch.Tensor, asked: bool) -> tuple[bool, torch.Tensor]:
        """One sum for all: gradients, each sample's loss, and whether anybody was asked to stop."""
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.processes.size == 1:
            return asked, losses
        parts = [p.grad for p in self.parameters.values()] + [losses, losses.new_tensor([float(asked)])]
        flat = self.processes.sum_(torch.cat([p.reshape(-1) for p in parts]))
        pieces = flat.split([p.numel() for p in parts])
        for part, piece in zip(parts, pieces, strict=True):
            part.copy_(piece.view_as(part))
        return bool(parts[-1].item() > 0), losses

    def _stop_if_not_finite(self, losses: torch.Tensor, batch: list[tuple[int, int]]) -> None:
        bad = [i for i, finite in enumerate(torch.isfinite(losses).tolist()) if not finite]
        if bad:
            number, video = batch[bad[0]]
            raise RunError(
                f"the loss is not finite at step {self.step + 1}, sample {number} "
                f"({self.source.clips[video].clip.path}); the checkpoints before it are kept. "
                "A lower training.learning_rate or training.max_grad_norm may mend it."
            )

    def _optimize(self, rate: float) -> float:
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        if self.training.zero_nonfinite_grads:
            for gradient in gradients:
                torch.nan_to_num_(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.training.max_grad_norm).item()
        if not math.isfinite(norm):
            raise RunError(
                f"the gradient is not finite at step {self.step + 1}; the checkpoints before it are kept. "
                "training.zero_nonfinite_grads=true sets such entries to zero, as the official recipe does."
            )
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
            return velocity(self.forward, batch, self.training.condition_timestep, self.pixels)[0]

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
            loss = flow_loss(self.forward, batch, self.training.condition_timestep, self.pixels).item()
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
        for index in self.processes.share(list(range(len(cells)))):
            clip, level = cells[index]
            with self._autocast():
                batch = self.validation.fixed(clip, sigmas[level], index, self.processes.device)
                losses[index] = flow_loss(self.forward, batch, self.training.condition_timestep, self.pixels)[0]
        self.transformer.train(was_training)
        table = self.processes.sum_(losses).view(-1, len(sigmas))
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
        written = {k: v for k, v in row.items() if k != "stop"}
        append_json_line(self.folder.train_log, written)
        self.log("train", written, self.step)
        bar.set_postfix(loss=f"{row['loss']:.4f}", lr=f"{row['lr']:.2e}", sps=f"{row['samples_per_second']:.2f}")
        bar.update(1)

    def _progress(self) -> Any:
        return tqdm(total=self.plan.num_steps, initial=self.step, desc="training", unit="step",
                    disable=None if self.processes.is_main else True)  # fmt: skip

    # --- checkpoints --------------------------------------------------------------------------------------------
    def save_checkpoint(self) -> None:
        """Write what resuming needs; main process only, the state is the same in all."""
        if self.processes.is_main:
            state = {
                "adapter": {n: p.detach().cpu() for n, p in self.parameters.items()},
                "optimizer": self.optimizer.state_dict(), "summary": self.summary,
                "ema": None if self.ema is None else {n: p.cpu() for n, p in self.ema.items()},
            }  # fmt: skip
            checkpoint.save(self.folder.checkpoints, self.step, state, self.training.keep_checkpoints)
        self.processes.wait()

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
        self.processes.wait()

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
