"""The fast paths of training and generation give what the plain ones give; plans of memory and work follow their formulas."""

import json
import sys
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import WAN

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.layers import adapted_layers, transformer_config
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.schema import Hardware
from cosmos_exp.distributed import Processes
from cosmos_exp.errors import Interrupted, RunError
from cosmos_exp.experiment.prepare import prepare
from cosmos_exp.files import read_json_lines
from cosmos_exp.generation.guidance import GuidedForward
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.training.log import SpeedMeter, StepFigures, peak_memory_gib, reset_peak_memory
from cosmos_exp.training.loop import AdaptedModel, Trainer
from cosmos_exp.training.plan import lr_at, sample_order
from cosmos_exp.training.samples import SampleSource, prefetch
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.hardware import (
    POLICIES,
    choose_checkpointing,
    latent_shape,
    memory_estimate,
    training_flops,
    training_memory_gib,
)
from cosmos_exp.world.loading import latent_statistics, load_transformer
from cosmos_exp.world.model_folder import ensure_model
from cosmos_exp.world.pipeline import load_pipeline
from cosmos_exp.world.rectified_flow import FlowBatch, flow_loss

TINY = ["data.validation_videos=0", "data.height=32", "data.width=48"]


@pytest.fixture(scope="module")
def prepared(small_config, tmp_path_factory):
    """Data and cache of a small run of small pictures, without validation clips."""
    folder = RunFolder(tmp_path_factory.mktemp("prepared"))
    return prepare(RunContext(small_config(*TINY), folder, Processes("cpu", 1)))


def trainer(config, prepared, folder, checkpointing="none"):
    """A Trainer with a fresh adapter on the embedded model."""
    model, _ = load_transformer(prepared.model, torch.float32)
    parameters = adapters.inject(model, config.adapter, config.seed)
    source = SampleSource(config, prepared.dataset.train, prepared.cache, latent_statistics(prepared.model))
    context = RunContext(config, RunFolder(folder), Processes("cpu", 1))
    device = context.processes.device
    adapted = AdaptedModel(model, parameters, config, device, checkpointing)
    order = sample_order(len(prepared.dataset.train), config.training, config.seed)
    return Trainer(context, adapted, order, source, None, SpeedMeter(None, device), lambda *row: None)


def plain_losses(config, prepared, steps):
    """The same training written down plainly: diffusers' forward pass, torch's AdamW, nothing ahead of time."""
    model, _ = load_transformer(prepared.model, torch.float32)
    parameters = list(adapters.inject(model, config.adapter, config.seed).values())
    source = SampleSource(config, prepared.dataset.train, prepared.cache, latent_statistics(prepared.model))
    order = sample_order(len(prepared.dataset.train), config.training, config.seed)
    optimizer = torch.optim.AdamW(parameters, lr=1.0, weight_decay=config.training.weight_decay)
    model.train()
    losses = []
    for step in range(steps):
        batch = source.batch(order.batch(step))
        loss = flow_loss(model, batch, config.training.condition_timestep, (32, 48)).sum() / len(order.batch(step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.training.max_grad_norm)
        optimizer.param_groups[0]["lr"] = lr_at(order.samples_before(step), config.training)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("kind", "lag"), [("lora", 0), ("dora", 1)])
def test_fifty_steps_have_the_loss_curve_of_the_plain_loop(kind, lag, prepared, small_config, tmp_path):
    """Also with figures read a step late, as on a GPU, and with activations computed again."""
    steps = 50
    config = small_config(
        f"adapter={kind}",
        f"training.max_steps={steps}",
        "training.epochs=1000",
        "training.checkpoint_every_steps=1000",
        "training.validation.every_steps=1000",
        *TINY,
    )
    ours = trainer(config, prepared, tmp_path, checkpointing=["selective", "pointwise", "full", "none", "none"])
    ours.log.lag = lag
    ours.train()
    rows = read_json_lines(ours.folder.train_log)
    assert [r["step"] for r in rows] == list(range(1, steps + 1))
    expected = plain_losses(config, prepared, steps)
    assert expected[-1] != expected[0]
    assert np.allclose([r["loss"] for r in rows], expected, rtol=1e-4)


@pytest.mark.parametrize("lag", [0, 1])
def test_asked_to_stop_and_resumed_equals_uninterrupted_bit_for_bit(lag, prepared, small_config, tmp_path):
    """What SIGTERM sets, set between two steps: a checkpoint of the step it is at, and the same adapter in the end."""
    config = small_config("training.max_steps=6", "training.checkpoint_every_steps=4", *TINY)
    adapters_made = {}
    for name in ("whole", "stopped"):
        ours = trainer(config, prepared, tmp_path / name)
        ours.log.lag = lag
        if name == "stopped":
            step, asked = ours.train_step, iter([False, False, True])

            def ask(stop, step=step, asked=asked):
                stop.asked = next(asked, True)
                return step(stop)

            ours.train_step = ask
            with pytest.raises(Interrupted, match=f"after step {3 + lag} of 6"):
                ours.train()
            ours = trainer(config, prepared, tmp_path / name)
        ours.train()
        assert [r["step"] for r in read_json_lines(ours.folder.train_log)] == [1, 2, 3, 4, 5, 6]
        adapters_made[name] = ours.model.parameters
    assert all(torch.equal(p, adapters_made["stopped"][n]) for n, p in adapters_made["whole"].items())


def test_samples_one_by_one_give_what_they_give_at_once(prepared, small_config, tmp_path):
    found = []
    for size in (1, 4):
        config = small_config(f"hardware.samples_per_forward={size}", *TINY)
        ours = trainer(config, prepared, tmp_path / str(size))
        ours.train()
        found.append([r["loss"] for r in read_json_lines(ours.folder.train_log)])
    assert np.allclose(*found, rtol=1e-4)


def test_a_late_reading_still_stops_at_the_step_that_went_wrong(prepared, small_config, tmp_path):
    config = small_config(*TINY)
    ours = trainer(config, prepared, tmp_path)
    ours.log.lag = 1
    draw = ours.source.batch

    def spoiled(samples, device="cpu"):
        batch = draw(samples, device)
        for place, (number, _) in enumerate(samples):
            if number == 3:
                batch.noise[place] = torch.nan
        return batch

    ours.source.batch = spoiled
    with pytest.raises(RunError, match=r"not finite at step 2, sample 3"):
        ours.train()
    assert [r["step"] for r in read_json_lines(ours.folder.train_log)] == [1]


class TestPrefetch:
    """Order, content and errors are those of a plain loop."""

    @staticmethod
    def make(piece):
        if piece == 4:
            raise RunError("piece 4 is damaged")
        return FlowBatch(*(torch.full((2,), float(piece)) for _ in range(5)))

    @pytest.mark.parametrize("ahead", [0, 1, 3])
    def test_batches_come_in_order_and_an_error_comes_at_its_place(self, ahead):
        batches = prefetch(self.make, iter(range(6)), torch.device("cpu"), ahead)
        for piece in range(4):
            got, batch = next(batches)
            assert got == piece
            assert batch.noise.tolist() == [piece, piece]
        with pytest.raises(RunError, match="damaged"):
            next(batches)
        batches.close()

    def test_it_draws_no_more_work_than_asked_ahead(self):
        drawn = []
        work = (drawn.append(i) or i for i in range(100))
        batches = prefetch(lambda i: self.make(0), work, torch.device("cpu"), 2)
        next(batches)
        assert len(drawn) == 3
        batches.close()


def test_figures_name_the_file_that_broke():
    figures = StepFigures(6, [(10, 0), (11, 1)], 1e-3, 0.0)
    figures.send(torch.tensor([0.5, float("inf")]), torch.tensor(1.0), torch.zeros(1))
    with pytest.raises(RunError, match=r"step 7, sample 11 \(b\.mp4\)"):
        figures.read(["a.mp4", "b.mp4"].__getitem__)
    figures.send(torch.tensor([0.5, 1.5]), torch.tensor(2.0), torch.ones(1))
    assert figures.read(str) == (1.0, 2.0, True)


class TestGuidance:
    """One forward pass of two samples answers the pipeline's two calls."""

    @torch.no_grad()
    def test_it_gives_what_two_passes_give(self, small_config):
        config = small_config()
        model, _ = load_transformer(ensure_model(config.model, cache_root(config)), torch.float32)
        torch.manual_seed(0)
        prompts = torch.randn(2, 1, 64, 256)
        calls = []

        def forward(**words):
            calls.append(len(words["hidden_states"]))
            return model(**words)

        answers = {}
        for together in (False, True):
            guided = GuidedForward(forward, together)
            guided.negative = prompts[1]
            answers[together] = []
            for step in range(2):
                torch.manual_seed(step)
                latent = torch.randn(1, 32, 5, 12, 20)
                words = {
                    "condition_mask": torch.zeros(1, 1, 5, 12, 20),
                    "timestep": torch.rand(1, 1, 5, 1, 1),
                    "padding_mask": torch.zeros(1, 1, 96, 160),
                    "return_dict": False,
                }
                answers[together] += [
                    guided(hidden_states=latent, encoder_hidden_states=p, **words)[0] for p in prompts
                ]
        assert calls == [1, 1, 1, 1, 2, 2]
        for one, other in zip(answers[False], answers[True], strict=True):
            assert torch.allclose(one, other, atol=1e-4)

    def test_without_a_negative_prompt_each_call_is_its_own(self):
        guided = GuidedForward(lambda **words: (words["hidden_states"],), True)
        latent = torch.zeros(1)
        assert guided(hidden_states=latent, encoder_hidden_states=latent)[0] is latent


@torch.no_grad()
@pytest.mark.parametrize("words", [[], WAN], ids=["linear", "wan"])
def test_the_given_frame_alone_is_encoded_to_the_same_latent(words, small_config):
    """diffusers encodes the whole padded clip; its latents of the conditioning frames and its masks equal ours, bit for bit."""
    from diffusers import Cosmos2_5_PredictBasePipeline

    from cosmos_exp.world.guardrail import GuardrailOff
    from cosmos_exp.world.loading import load_vae

    config = small_config(*words)
    folder = ensure_model(config.model, cache_root(config))
    pipe = load_pipeline(
        folder, load_transformer(folder, torch.float32)[0], load_vae(folder, torch.float32), GuardrailOff()
    )
    torch.manual_seed(0)
    video = torch.rand(1, 3, 17, 96, 160) * 2 - 1
    size = {
        "batch_size": 1,
        "num_channels_latents": config.model.z_dim,
        "height": 96,
        "width": 160,
        "dtype": torch.float32,
        "device": torch.device("cpu"),
        "num_frames_out": 17,
    }
    for given in (1, 5):
        latents = torch.randn(1, config.model.z_dim, 5, 12, 20)
        ours = pipe.prepare_latents(video=video, num_frames_in=given, latents=latents, **size)
        theirs = Cosmos2_5_PredictBasePipeline.prepare_latents(
            pipe, video=video, num_frames_in=given, latents=latents, **size
        )
        for a, b in zip(
            (ours[0], ours[1] * ours[2], *ours[2:]), (theirs[0], theirs[1] * theirs[2], *theirs[2:]), strict=True
        ):
            assert torch.equal(a, b)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that of the whole process")
def test_the_peak_of_a_stage_is_its_own():
    device = torch.device("cpu")
    torch.ones(2**26).sum()  # 0.25 GiB
    before = peak_memory_gib(device)
    reset_peak_memory(device)
    assert peak_memory_gib(device) < before - 0.2


class TestMemoryPlan:
    """Arithmetic of memory and of what is computed again."""

    PLAN: ClassVar = {
        "base_parameters": 2e9,
        "trainable": 46e6,
        "tokens": 31104,
        "hidden": 2048,
        "num_layers": 28,
        "samples": 1,
        "bytes_a_weight": 2,
        "compile": True,
        "dora": False,
    }

    def need(self, policies):
        return training_memory_gib(self.PLAN | {"checkpointing": policies})

    def test_each_policy_keeps_less_than_the_one_before(self):
        needs = [self.need(p) for p in POLICIES]
        assert needs == sorted(needs, reverse=True)

    @pytest.mark.parametrize("budget", [12, 14, 20, 40, 60, 70, 200])
    def test_as_much_is_kept_as_fits_and_not_one_block_more(self, budget):
        policies = choose_checkpointing(self.PLAN, budget)
        assert len(policies) == 28
        assert self.need(policies) <= budget
        ranks = [POLICIES.index(p) for p in policies]
        if min(ranks) != max(ranks) or policies[0] != "none":
            first = ranks.index(max(ranks))  # the first block that keeps less could not keep more
            better = [*policies[:first], POLICIES[ranks[first] - 1], *policies[first + 1 :]]
            assert self.need(better) > budget

    def test_where_nothing_fits_all_is_computed_again(self):
        assert choose_checkpointing(self.PLAN, 1.0) == ["full"] * 28
        assert choose_checkpointing(self.PLAN, None) == ["full"] * 28

    def test_the_24_gb_card_stays_under_20_gib(self, small_config):
        config = small_config("model=cosmos_predict25_2b", "data=gr1_100", "hardware=1x24gb")
        keys = transformer_config(config.model)
        for dora in (False, True):
            plan = memory_estimate(keys, 2_059_174_912, 46_000_000, 31104, config.hardware, 8, dora)
            assert set(plan["checkpointing"]) <= {"pointwise", "selective", "full"}
            assert training_memory_gib(plan) < 20

    def test_a_named_policy_is_taken_as_it_is(self):
        hardware = Hardware(checkpointing="selective")
        keys = {"num_attention_heads": 4, "attention_head_dim": 64, "num_layers": 5}
        assert memory_estimate(keys, 1, 1, 10, hardware, 4, False)["checkpointing"] == ["selective"] * 5


def test_the_work_of_a_sample_is_what_pytorch_counts(prepared, small_config):
    """Our arithmetic against PyTorch's own FLOP counter over forward and backward of the real classes."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    config = small_config(*TINY)
    model, _ = load_transformer(prepared.model, torch.float32)
    adapters.inject(model, config.adapter, 0)
    clean, drawn = torch.randn(2, 1, 32, 5, 12, 20)
    batch = FlowBatch(clean, drawn, torch.tensor([0.5]), torch.tensor([1]), torch.randn(1, 64, 256))
    # It does not know the CPU's fused attention; the plain one is four products, which it does.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        flow_loss(model, batch, 0.0, (96, 160)).sum().backward()
    keys = dict(model.config)
    layers = adapted_layers(keys, config.adapter.target_modules)
    ours = training_flops(keys, latent_shape(32, 17, 96, 160), 64, layers, config.adapter.rank)
    # It also counts what ours leaves out: modulations, patches, the first block's input.
    assert 0.9 < ours / counter.get_total_flops() < 1.03


def test_a_run_records_its_speed_and_its_choices(cli, small_config, tmp_path):
    from conftest import SMALL

    assert (
        cli("run", *SMALL, f"run_dir={tmp_path}/run", "hardware.checkpointing=selective", "sampson.enabled=false") == 0
    )
    folder = RunFolder(tmp_path / "run")
    training = folder.read(folder.metrics)["training"]
    assert training["peak_memory_gib"] > 0.1
    assert training["tflops_per_second"] > 0
    assert training["first_step_seconds"] >= training["step_seconds"] * 0.5
    speed = json.loads(folder.manifest_file.read_text())["speed"]
    assert speed["checkpointing"] == {"selective": 5}
    assert speed["compile"] is False
    assert speed["approximate"] == []
    assert speed["attention"] in {"FLASH_ATTENTION", "MATH"}


def test_settings_that_cannot_go_together_are_told(cli, capsys):
    assert cli("run", "hardware.checkpointing=auto", "dry_run=true") == 2
    assert "hardware.memory_gb" in capsys.readouterr().err
    words = ["hardware=1xh100", "hardware.device=cpu", "adapter.dropout=0.1", "dry_run=true"]
    assert cli("run", *words) == 2
    assert "hardware.compile=false" in capsys.readouterr().err


def test_an_adapters_work_counts_three_times_its_forward():
    keys = {
        "in_channels": 3,
        "out_channels": 2,
        "num_attention_heads": 1,
        "attention_head_dim": 8,
        "num_layers": 1,
        "mlp_ratio": 1.0,
        "text_embed_dim": 8,
        "adaln_lora_dim": 4,
    }
    layers = {"transformer_blocks.0.attn1.to_q": (8, 8)}
    without, with_adapter = (training_flops(keys, (2, 1, 4, 4), 3, group, 2) for group in ({}, layers))
    assert with_adapter - without == 3 * 2 * 4 * 2 * (8 + 8)
