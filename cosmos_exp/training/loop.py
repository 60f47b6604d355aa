"""The training loop, by zoom level: `train` is the cadence, `train_step` one optimizer step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch

from cosmos_exp.config.context import RunContext
from cosmos_exp.errors import Interrupted
from cosmos_exp.files import JsonObject
from cosmos_exp.rng import generator
from cosmos_exp.run_folder.records import damaged
from cosmos_exp.training import checks
from cosmos_exp.training.checkpoints import Checkpoints
from cosmos_exp.training.figures import StepFigures
from cosmos_exp.training.gradients import TreeSum
from cosmos_exp.training.log import Mirror, TrainingLog
from cosmos_exp.training.model import AdaptedModel
from cosmos_exp.training.optimizer import AdapterOptimizer
from cosmos_exp.training.prefetch import Prefetcher
from cosmos_exp.training.sample_order import SampleOrder
from cosmos_exp.training.samples import SampleSource
from cosmos_exp.training.schedule import all_lrs, lr_at
from cosmos_exp.training.slots import cut_into_slots, share
from cosmos_exp.training.speed import SpeedMeter
from cosmos_exp.training.stopping import StopRequest
from cosmos_exp.training.validation import validation_losses
from cosmos_exp.world.kernels import deterministic_kernels


class Trainer:
    """Trains one adapter from the newest checkpoint, or from the start.

    Args:
        source: the training samples. held_out: the validation clips, if any.
        mirror: called with every row of the logs (the dashboard).
    """

    def __init__(
        self,
        context: RunContext,
        model: AdaptedModel,
        order: SampleOrder,
        source: SampleSource,
        held_out: SampleSource | None,
        meter: SpeedMeter,
        mirror: Mirror,
    ):
        config = context.config
        self.config, self.training = config, config.training
        self.folder, self.processes = context.folder, context.processes
        self.model, self.order, self.source, self.held_out = model, order, source, held_out
        self.gradients = TreeSum(model.parameters, self.processes)
        self.optimizer = AdapterOptimizer(model.parameters, config.training, config.approximate.adamw_8bit)
        self.checkpoints = Checkpoints(context.folder.checkpoints, config.training.keep_checkpoints)
        self.log = TrainingLog(self.folder, self.processes, order, self._path_of, mirror, meter)
        self.step = 0
        self.summary: JsonObject = {}

    def train(self) -> JsonObject:
        """Train to the last step. Returns the training summary.

        Raises:
            Interrupted: asked to stop; a checkpoint was written.
            RunError: a loss or gradient is not finite, or a check failed.
        """
        torch.set_grad_enabled(True)  # cosmos_guardrail, where installed, switches it off on import
        self._resume()
        kernels = deterministic_kernels(self.training.deterministic)
        with StopRequest().listening() as stop, self.log.progress(self.step), kernels:
            if self.step == 0:
                self._start_checks()
                self._validate()
            self.model.transformer.train()
            self.start_batches()
            try:
                while self.step < self.order.num_steps:
                    self.log.unread.append(self.train_step(stop))
                    self.step += 1
                    self._after_step()
            finally:
                self.batches.close()
        return self._finish()

    def train_step(self, stop: StopRequest) -> StepFigures:
        """Sum the gradients of all slots of the global batch over the processes, clip, step. Waits for nothing."""
        batch = self.order.batch(self.step)
        lr = lr_at(self.order.samples_before(self.step), self.training)
        figures = StepFigures(self.step, batch, lr, time.perf_counter())
        slots = self._slots(len(batch))
        losses = torch.zeros(len(batch), device=self.processes.device)

        def backward(slot: int) -> None:
            samples, data = next(self.batches)
            self._seed_dropout(samples)
            loss = self.model.losses(data)
            (loss.sum() / len(batch)).backward()
            losses[slots[slot][0] : slots[slot][-1] + 1] = loss.detach()

        self.gradients.run(len(slots), backward)
        asked = torch.full((1,), float(stop.asked), device=losses.device)
        # Each loss comes from one process and the flags are whole numbers: their sum is exact in any order.
        shared = self.processes.all_reduce_(torch.cat([losses, asked]))
        figures.send(shared[:-1], self.optimizer.step(lr, self.step), shared[-1:])
        return figures

    def _after_step(self) -> None:
        """What is due after a step: its log row, validation, a checkpoint, stopping."""
        last = self.step == self.order.num_steps
        validate = last or self.step % self.training.validation.every_steps == 0
        save = last or self.step % self.training.checkpoint_every_steps == 0
        stop = self.log.read(leave=0 if validate or save else self.log.lag)
        if stop:
            self.log.read(leave=0)
        if validate:
            self._validate()
        if save or stop:
            self._save()
        if stop and not last:
            raise Interrupted(f"stopped after step {self.step} of {self.order.num_steps}; a checkpoint was written")

    def start_batches(self) -> None:
        """Begin to prepare batches, from the current step on."""
        ahead = 0 if self.source.encoders else 2
        self.batches = Prefetcher(self.source.batch, self._forward_passes(), self.processes.device, ahead)

    def _forward_passes(self) -> Iterator[list[tuple[int, int]]]:
        """The samples of each of this process's forward passes, from the current step on."""
        for step in range(self.step, self.order.num_steps):
            batch = self.order.batch(step)
            slots = self._slots(len(batch))
            for places in slots[slice(*share(self.processes.rank, self.processes.size, len(slots)))]:
                yield [batch[place] for place in places]

    def _slots(self, batch_size: int) -> list[Sequence[int]]:
        """The places in the global batch, one list per forward pass."""
        return cut_into_slots(range(batch_size), self.config.hardware.samples_per_forward)

    def _seed_dropout(self, samples: Sequence[tuple[int, int]]) -> None:
        """Make the adapter's dropout a function of the seed and the samples, as every other draw is."""
        if self.config.adapter.dropout > 0:
            torch.manual_seed(int(generator(self.config.seed, "dropout", samples[0][0]).randint(2**31 - 1)))

    def _path_of(self, video: int) -> object:
        return self.source.clips[video].clip.path

    def _check_velocity(self) -> torch.Tensor:
        return self.model.velocity(self.source.fixed(0, 0.5, 0, self.processes.device))

    def _start_checks(self) -> None:
        checks.check_schedule(all_lrs(self.order, self.training))
        checks.check_trainable(self.model.transformer, self.model.parameters, self.config.adapter)
        change = checks.check_untouched(self.model.transformer, self._check_velocity, self.model.precision)
        with torch.no_grad():
            first = self.source.batch(self.order.batch(0)[:1], self.processes.device)
            loss = self.model.losses(first, eager=True).item()
        checks.check_first_loss(loss, self.config.model.max_first_loss)
        if self.processes.is_main:
            self.folder.update_manifest(checks={"untouched_adapter_change": change, "first_loss": loss})

    def _validate(self) -> None:
        if self.held_out is None:
            return
        losses = validation_losses(self.model, self.held_out, self.training.validation.sigmas, self.processes)
        self.summary["validation_loss"] = losses["validation_loss"]
        self.summary.setdefault("first_validation_loss", losses["validation_loss"])
        self.log.validation(self.step, losses)

    def _save(self) -> None:
        """Write a checkpoint: from the main process only, as the state is the same in all."""
        if self.processes.is_main:
            self.checkpoints.save(self.step, {**self.optimizer.state_dict(), "summary": self.summary})
        self.processes.barrier()

    def _resume(self) -> None:
        state = self.checkpoints.load_newest()
        if state is not None:
            try:
                self.optimizer.load_state_dict(state, self.processes.device)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise damaged(self.checkpoints.read_from, error) from error
            self.step, self.summary = state["step"], state["summary"]
        self.log.cut(self.step)
        self.processes.barrier()

    def _finish(self) -> JsonObject:
        """Use the averaged adapter if there is one, check that it changes the velocity, summarise."""
        self.optimizer.use_average()
        self.model.transformer.eval()
        self.summary |= {
            "trained_adapter_change": checks.check_learned(self.model.transformer, self._check_velocity),
            "trainable_parameters": sum(p.numel() for p in self.model.parameters.values()),
            "steps": self.order.num_steps,
            "samples": self.order.samples_before(self.order.num_steps),
            **self.log.summary(),
        }
        return self.summary
