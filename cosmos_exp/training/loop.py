"""The training loop, by zoom: `Trainer.train` is the cadence, `train_step` one optimizer step, `flow_loss` the formula."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import FrameType

import torch
from diffusers import CosmosTransformer3DModel
from torch import nn

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.schema import Config
from cosmos_exp.distributed import PeerLost, Processes
from cosmos_exp.errors import Interrupted
from cosmos_exp.files import JsonObject
from cosmos_exp.rng import generator
from cosmos_exp.run_folder.records import damaged
from cosmos_exp.training import checks
from cosmos_exp.training.checkpoints import Checkpoints
from cosmos_exp.training.gradients import TreeSum, cut_into_slots, share
from cosmos_exp.training.log import Mirror, SpeedMeter, StepFigures, TrainingLog
from cosmos_exp.training.optimizer import AdapterOptimizer
from cosmos_exp.training.plan import SampleOrder, lr_at
from cosmos_exp.training.samples import SampleSource, prefetch
from cosmos_exp.world.adapter import can_be_disabled
from cosmos_exp.world.fast_forward import fast_forward
from cosmos_exp.world.kernels import deterministic_kernels
from cosmos_exp.world.rectified_flow import FlowBatch, flow_loss, velocity


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
        self.untrained = self._check_velocity()  # before a checkpoint is read: the base's
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
                    self.log.pending.append(self.train_step(stop))
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
            with self.model.autocast():
                loss = flow_loss(self.model.forward, data, *self.model.recipe)
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
        self.batches = prefetch(self.source.batch, self._forward_passes(), self.processes.device, ahead)

    def _forward_passes(self) -> Iterator[list[tuple[int, int]]]:
        """The samples of each of this process's forward passes, from the current step on."""
        for step in range(self.step, self.order.num_steps):
            batch = self.order.batch(step)
            slots = self._slots(len(batch))
            first, last = share(self.processes.rank, self.processes.size, len(slots))
            for places in slots[first:last]:
                yield batch[places[0] : places[-1] + 1]

    def _slots(self, batch_size: int) -> list[Sequence[int]]:
        """The places in the global batch, one range per forward pass."""
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
        checks.check_trainable(self.model.transformer, self.model.parameters, self.config.adapter)
        change = None
        if can_be_disabled(self.config.adapter):
            change = checks.check_untouched(self.model.transformer, self._check_velocity, self.model.precision)
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
            "trained_adapter_change": checks.check_learned(self._check_velocity(), self.untrained),
            "trainable_parameters": sum(self.gradients.sizes),
            "steps": self.order.num_steps,
            "samples": self.order.samples_before(self.order.num_steps),
            **self.log.summary(),
        }
        return self.summary


class AdaptedModel:
    """The transformer, the trained parameters in it (an adapter's, or all), and the ways to run it.

    Args:
        transformer: with the adapter injected, on `device`.
        parameters: the trained parameters by name, fp32.
        checkpointing: activation checkpointing policy of all blocks, or one per block.
    """

    def __init__(
        self,
        transformer: CosmosTransformer3DModel,
        parameters: dict[str, nn.Parameter],
        config: Config,
        device: torch.device,
        checkpointing: str | list[str] = "none",
    ):
        self.transformer, self.parameters, self.device = transformer, parameters, device
        self.precision = config.hardware.mixed_precision
        self.recipe = (config.training.condition_timestep, (config.data.height, config.data.width))  # of `flow_loss`
        self.forward = fast_forward(transformer, config.hardware.compile, checkpointing)
        # Single checks run uncompiled: a graph for their shapes alone would take minutes.
        self.eager_forward = fast_forward(transformer) if config.hardware.compile else self.forward

    def autocast(self) -> AbstractContextManager[object]:
        """The mixed precision of the configuration."""
        if self.precision == "no":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    @torch.no_grad()
    def losses(self, batch: FlowBatch, eager: bool = False) -> torch.Tensor:
        """The flow loss of each sample, (B,), without gradients."""
        with self.autocast():
            forward = self.eager_forward if eager else self.forward
            return flow_loss(forward, batch, *self.recipe)

    @torch.no_grad()
    def velocity(self, batch: FlowBatch) -> torch.Tensor:
        """The velocity (B, C, T, H, W), uncompiled, without gradients."""
        with self.autocast():
            return velocity(self.eager_forward, batch, *self.recipe)[0]


def validation_losses(
    model: AdaptedModel, held_out: SampleSource, sigmas: list[float], processes: Processes
) -> dict[str, float]:
    """The mean loss over clips and sigmas, and the mean at each sigma. The processes divide the work.

    Sigmas and noise are fixed, so that two adapters see the same.
    """
    losses = torch.zeros(len(held_out.clips) * len(sigmas), device=processes.device)
    was_training = model.transformer.training
    model.transformer.eval()
    for index in processes.shard(range(len(losses))):
        clip, level = divmod(index, len(sigmas))
        losses[index] = model.losses(held_out.fixed(clip, sigmas[level], index, processes.device))[0]
    model.transformer.train(was_training)
    table = processes.all_reduce_(losses).view(-1, len(sigmas))
    means = {"validation_loss": table.mean().item()}
    for level, sigma in enumerate(sigmas):
        means[f"validation_loss_sigma_{sigma:g}"] = table[:, level].mean().item()
    return means


class StopRequest:
    """`asked` is set by SIGTERM or the first Ctrl-C. A second Ctrl-C raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.asked = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Handle the signals while the block runs.

        Raises:
            Interrupted: another process ended, and the launcher has already stopped this one because of it.
        """

        def ask(number: int, frame: FrameType | None) -> None:
            if self.asked and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.asked = True

        old = {}
        with contextlib.suppress(ValueError):  # not the main thread
            for number in (signal.SIGTERM, signal.SIGINT):
                old[number] = signal.signal(number, ask)
        try:
            yield self
        except PeerLost as error:
            if self.asked:
                raise Interrupted(str(error)) from error
            raise
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
