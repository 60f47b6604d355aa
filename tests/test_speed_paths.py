"""The fast paths of training and generation give what the plain ones give; plans of memory and work follow their formulas."""

import numpy as np
import pytest
import torch
from conftest import WAN
from diffusers import Cosmos2_5_PredictBasePipeline

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.layers import adapted_layers, transformer_config
from cosmos_exp.distributed import Processes
from cosmos_exp.errors import Interrupted, RunError
from cosmos_exp.experiment.prepare import prepare
from cosmos_exp.files import read_json_lines
from cosmos_exp.generation.guidance import GuidedForward
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.training.log import SpeedMeter
from cosmos_exp.training.loop import AdaptedModel, Trainer
from cosmos_exp.training.plan import lr_at, sample_order
from cosmos_exp.training.samples import SampleSource
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.guardrail import GuardrailOff
from cosmos_exp.world.hardware import POLICIES, StepMemory, choose_checkpointing, memory_estimate, training_flops
from cosmos_exp.world.loading import latent_statistics, load_transformer, load_vae
from cosmos_exp.world.model_folder import ensure_model
from cosmos_exp.world.pipeline import load_pipeline
from cosmos_exp.world.rectified_flow import FlowBatch, flow_loss

TINY = ["data.validation_videos=0", "data.height=32", "data.width=48"]


@pytest.fixture(scope="module")
def prepared(small_config, tmp_path_factory):
    """Data and cache of a small run of small pictures, without validation clips."""
    folder = RunFolder(tmp_path_factory.mktemp("prepared"))
    return prepare(RunContext(small_config(*TINY), folder, Processes("cpu", 1)))


def parts(config, prepared):
    """The embedded model, the parameters of a fresh adapter in it, the samples and their order."""
    model, _ = load_transformer(prepared.model, torch.float32)
    parameters = adapters.inject(model, config.adapter, config.seed)
    source = SampleSource(config, prepared.dataset.train, prepared.cache, latent_statistics(prepared.model))
    return model, parameters, source, sample_order(len(prepared.dataset.train), config)


def trainer(config, prepared, folder, checkpointing="none"):
    """A Trainer with a fresh adapter on the embedded model."""
    model, parameters, source, order = parts(config, prepared)
    context = RunContext(config, RunFolder(folder), Processes("cpu", 1))
    device = context.processes.device
    adapted = AdaptedModel(model, parameters, config, device, checkpointing)
    return Trainer(context, adapted, order, source, None, SpeedMeter(None, device), lambda *row: None)


def logged(trainer, key="loss"):
    """What the training log has of each step."""
    return [row[key] for row in read_json_lines(trainer.folder.train_log)]


def plain_losses(config, prepared, steps):
    """The same training written down plainly: diffusers' forward pass, torch's AdamW, nothing ahead of time."""
    model, parameters, source, order = parts(config, prepared)
    settings, losses = config.training, []
    optimizer = torch.optim.AdamW(parameters.values(), lr=1.0, weight_decay=settings.weight_decay)
    model.train()
    for step in range(steps):
        batch = source.batch(order.batch(step))
        loss = flow_loss(model, batch, settings.condition_timestep, (32, 48)).sum() / len(order.batch(step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), settings.max_grad_norm)
        optimizer.param_groups[0]["lr"] = lr_at(order.samples_before(step), settings)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("kind", "lag"), [("lora", 0), ("dora", 1)])
def test_ten_steps_have_the_loss_curve_of_the_plain_loop(kind, lag, prepared, small_config, tmp_path):
    """Also with figures read a step late, as on a GPU, and with activations computed again."""
    long = ["training.epochs=1000", "training.checkpoint_every_steps=1000", "training.validation.every_steps=1000"]
    config = small_config(f"adapter={kind}", "training.max_steps=10", *long, *TINY)
    ours = trainer(config, prepared, tmp_path, checkpointing=["selective", "pointwise", "full", "none", "none"])
    ours.log.lag = lag
    ours.train()
    expected = plain_losses(config, prepared, 10)
    assert expected[-1] != expected[0]
    assert np.allclose(logged(ours), expected, rtol=1e-4)


@pytest.mark.parametrize(("lag", "kind"), [(0, "lora"), (1, "full")])
def test_asked_to_stop_and_resumed_equals_uninterrupted_bit_for_bit(lag, kind, prepared, small_config, tmp_path):
    """What SIGTERM sets, set between two steps: a checkpoint of the step it is at, and the same average in the end."""
    words = [f"adapter={kind}", "training.ema_power=0.1", "training.max_steps=6", "training.checkpoint_every_steps=4"]
    config = small_config(*words, *TINY)
    whole, stopped, resumed = (trainer(config, prepared, tmp_path / name) for name in ("whole", "stopped", "stopped"))
    step, asked = stopped.train_step, iter([False, False])

    def ask(stop):
        stop.asked = next(asked, True)
        return step(stop)

    stopped.train_step = ask
    stopped.log.lag = lag
    with pytest.raises(Interrupted, match=f"after step {3 + lag} of 6"):
        stopped.train()
    for ours in (whole, resumed):
        ours.train()
        assert logged(ours, "step") == [1, 2, 3, 4, 5, 6]
    for name, parameter in whole.model.parameters.items():
        assert torch.equal(parameter, resumed.model.parameters[name])


def test_samples_one_by_one_give_what_they_give_at_once(prepared, small_config, tmp_path):
    losses = []
    for size in (1, 4):
        config = small_config(f"hardware.samples_per_forward={size}", *TINY)
        ours = trainer(config, prepared, tmp_path / str(size))
        ours.train()
        losses.append(logged(ours))
    assert np.allclose(*losses, rtol=1e-4)


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
    with pytest.raises(RunError, match=r"not finite at step 2, sample 3 \(.*\.mp4\)"):
        ours.train()
    assert logged(ours, "step") == [1]


@torch.no_grad()
def test_one_forward_pass_of_two_samples_answers_the_pipelines_two_calls(small_config):
    config = small_config()
    model, _ = load_transformer(ensure_model(config), torch.float32)
    torch.manual_seed(0)
    prompts, latent = torch.randn(2, 1, 64, 256), torch.randn(1, 32, 5, 12, 20)
    words = {"hidden_states": latent, "timestep": torch.rand(1, 1, 5, 1, 1)}
    words |= {"condition_mask": torch.zeros(1, 1, 5, 12, 20), "padding_mask": torch.zeros(1, 1, 96, 160)}
    calls, answers = [], []

    def forward(**words):
        calls.append(len(words["hidden_states"]))
        return model(**words, return_dict=False)

    for together in (False, True):
        guided = GuidedForward(forward, together)
        guided.negative = prompts[1]
        answers.append(torch.cat([guided(encoder_hidden_states=prompt, **words)[0] for prompt in prompts]))
    assert calls == [1, 1, 2]
    assert torch.allclose(*answers, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("words", [[], WAN], ids=["linear", "wan"])
def test_the_given_frame_alone_is_encoded_to_the_same_latent(words, small_config):
    """diffusers encodes the whole padded clip; its latents of the conditioning frames and its masks equal ours, bit for bit."""
    config = small_config(*words)
    folder = ensure_model(config)
    models = [load(folder, torch.float32) for load in (load_transformer, load_vae)]
    pipe = load_pipeline(folder, models[0][0], models[1], GuardrailOff())
    torch.manual_seed(0)
    channels = config.model.z_dim
    words = {"video": torch.rand(1, 3, 17, 96, 160) * 2 - 1, "batch_size": 1, "num_channels_latents": channels}
    words |= {"height": 96, "width": 160, "dtype": torch.float32, "device": torch.device("cpu"), "num_frames_out": 17}
    for given in (1, 5):
        words |= {"num_frames_in": given, "latents": torch.randn(1, channels, 5, 12, 20)}
        ours = pipe.prepare_latents(**words)
        theirs = Cosmos2_5_PredictBasePipeline.prepare_latents(pipe, **words)
        assert torch.equal(ours[1] * ours[2], theirs[1] * theirs[2])
        for a, b in zip((ours[0], *ours[2:]), (theirs[0], *theirs[2:]), strict=True):
            assert torch.equal(a, b)


# 2e9 frozen and 46e6 trained parameters, 31,104 tokens of 2,048 values in bf16.
MEMORY = StepMemory(2 * 2e9 + 16 * 46e6, 31104 * 2048 * 2, 28, True, False)


@pytest.mark.parametrize("budget", [14, 40, 200])
def test_as_much_is_kept_as_fits_and_not_one_block_more(budget):
    policies = choose_checkpointing(MEMORY, budget)
    assert len(policies) == 28
    assert MEMORY.gib(policies) <= budget
    ranks = [POLICIES.index(p) for p in policies]
    if max(ranks):
        first = ranks.index(max(ranks))  # the first block that keeps less could not keep more
        assert MEMORY.gib([*policies[:first], POLICIES[ranks[first] - 1], *policies[first + 1 :]]) > budget


def test_checkpointing_of_a_card(small_config):
    needs = [MEMORY.gib([p] * 28) for p in POLICIES]
    assert needs == sorted(needs, reverse=True)
    assert choose_checkpointing(MEMORY, 1.0) == choose_checkpointing(MEMORY, None) == ["full"] * 28
    config = small_config("model=cosmos_predict25_2b", "data=gr1_100", "hardware=1x24gb")
    keys = transformer_config(config.model)
    gib, policies = memory_estimate(keys, 2_059_174_912, 46_000_000, 31104, config.hardware, 8, True)
    assert set(policies) <= {"pointwise", "selective", "full"}
    assert gib < 20


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
    ranks = dict.fromkeys(layers, config.adapter.rank)
    ours = training_flops(keys, clean.shape[1:], 64, layers, ranks)
    # It also counts what ours leaves out: modulations, patches, the first block's input.
    assert 0.9 < ours / counter.get_total_flops() < 1.03
