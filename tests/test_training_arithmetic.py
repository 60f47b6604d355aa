"""Counting, draws and formulas against closed forms, diffusers and facts.md; no training."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import Cosmos2_5_PredictBasePipeline, CosmosTransformer3DModel
from diffusers.optimization import get_linear_schedule_with_warmup

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.layers import adapted_layers, linear_layers, trainable_parameters, transformer_config
from cosmos_exp.rng import epoch_order, noise
from cosmos_exp.training.plan import lr_at, sample_order
from cosmos_exp.training.samples import SampleSource, sample_draws
from cosmos_exp.world.rectified_flow import FlowBatch, flow_loss


@pytest.mark.parametrize(
    ("kind", "rank", "millions"), [("lora", 8, 11.469), ("lora", 32, 45.875), ("dora", 32, 46.621)]
)
def test_trainable_parameters_of_the_2b_model(kind, rank, millions):  # facts.md section 1
    config = compose_config(["model=cosmos_predict25_2b"])
    keys = transformer_config(config.model)
    layers = adapted_layers(keys, config.adapter.target_modules)
    assert len(layers) == 280
    with torch.device("meta"):
        model = CosmosTransformer3DModel(**keys, extra_pos_embed_type=None)
    real = {n: (m.in_features, m.out_features) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert linear_layers(keys) == real
    assert trainable_parameters(layers, kind, dict.fromkeys(layers, rank)) / 1e6 == pytest.approx(millions, abs=1.1e-3)


def test_learning_rate_is_diffusers_schedule_counted_in_samples():
    training = compose_config(["model=cosmos_predict25_2b"]).training
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=training.learning_rate)
    reference = get_linear_schedule_with_warmup(optimizer, 1000, 100000, f_min=0.2, f_max=0.5).lr_lambdas[0]
    for samples in (0, 1, 8, 999, 1000, 1001, 50_000, 99_999, 100_000, 250_000):
        assert lr_at(samples, training) == pytest.approx(training.learning_rate * reference(samples), rel=1e-12)


def test_an_epoch_visits_every_video_once():
    order = sample_order(10, compose_config(["training.epochs=3", "training.global_batch_size=4", "seed=3"]))
    assert (order.steps_per_epoch, order.num_steps) == (3, 9)
    batches = [order.batch(s) for s in range(9)]
    assert [n for b in batches for n, _ in b] == list(range(30))
    for epoch in range(3):
        assert sorted(v for b in batches[3 * epoch : 3 * epoch + 3] for _, v in b) == list(range(10))
    assert [order.samples_before(s) for s in range(5)] == [0, 4, 8, 10, 14]
    assert list(epoch_order(3, 0, 10)) != list(epoch_order(3, 1, 10))


def test_draws_follow_the_recipe():
    training = compose_config(["training=diffusers"]).training
    draws = [sample_draws(7, n, training) for n in range(4000)]
    sigmas = np.array([d.sigma for d in draws])
    # u is logit-normal: sigma < s iff N < logit(s / (5 - 4 s)); at N = 0 that is 5/6.
    assert np.median(sigmas) == pytest.approx(5 / 6, abs=0.01)
    wide = training.model_copy(update={"sigma_std": 2.0})
    low = [sample_draws(7, n, wide).sigma < 0.5 for n in range(4000)]
    assert (np.mean(sigmas < 0.5), np.mean(low)) == pytest.approx((0.0538, 0.2105), abs=0.015)  # Phi(logit(1/6) / std)
    assert np.mean([d.drop_text for d in draws]) == pytest.approx(0.2, abs=0.025)
    assert np.mean([d.condition_frames == 1 for d in draws]) == pytest.approx(0.5, abs=0.03)
    assert sample_draws(7, 123, training) == draws[123] != sample_draws(8, 123, training)
    assert noise(7, 5, (20000,)).std() == pytest.approx(1, abs=0.02)
    official = compose_config(["training=cosmos_predict25"]).training  # no conditioning frames a third of the time
    counts = [sample_draws(0, n, official).condition_frames for n in range(3000)]
    assert np.bincount(counts) / 3000 == pytest.approx(1 / 3, abs=0.03)


def test_a_sample_whose_text_is_dropped_is_trained_on_the_zero_embedding():
    config = compose_config(["training.text_dropout=0.5"])
    clip = SimpleNamespace(name="a", prompt="Lift it.")
    checked = SimpleNamespace(clip=clip, start=0, stop=17, sha256="0" * 12, info=SimpleNamespace(fps=8))
    latent, text = torch.zeros(4, 5, 6, 8), torch.ones(2, 4)
    cache = SimpleNamespace(read=lambda item: latent if isinstance(item, tuple) else text * bool(item))
    source = SampleSource(config, [checked], cache, (torch.zeros(1), torch.ones(1)))
    prompts = source.batch([(number, 0) for number in range(20)]).prompt
    dropped = [sample_draws(config.seed, number, config.training).drop_text for number in range(20)]
    assert [not prompt.any() for prompt in prompts] == dropped
    assert True in dropped


def test_loss_is_the_recipes_formula():
    """Against the recipe written out sample by sample, with the pipeline's own condition mask."""
    torch.manual_seed(0)
    clean, eps, sigma = torch.randn(2, 4, 5, 6, 8), torch.randn(2, 4, 5, 6, 8), torch.tensor([0.3, 0.9])
    seen = {}

    def model(**words):
        seen.update(words)
        return (words["hidden_states"] * 0.5,)

    given = [1, 2]
    batch = FlowBatch(clean, eps, sigma, torch.tensor(given), torch.zeros(2, 3, 7))
    losses = flow_loss(model, batch, 0.0001, (48, 64))
    indicator, mask = Cosmos2_5_PredictBasePipeline.create_condition_mask(
        None, clean.shape, "cpu", torch.float32, given
    )
    for i in range(2):
        x = sigma[i] * eps[i] + (1 - sigma[i]) * clean[i]
        x[:, : given[i]] = clean[i, :, : given[i]]
        error = 0.5 * x - (eps[i] - clean[i])
        error[:, : given[i]] = 0
        assert losses[i].item() == pytest.approx(error.square().mean().item(), rel=1e-6)
        times = seen["timestep"][i].flatten()
        assert times[: given[i]].tolist() == pytest.approx([0.0001] * given[i])
        assert times[given[i] :].tolist() == pytest.approx([sigma[i].item()] * (5 - given[i]))
    assert torch.equal(seen["condition_mask"], mask)
    flow_loss(model, batch, None, (48, 64))
    assert torch.equal(seen["timestep"], sigma.view(2, 1, 1, 1, 1).expand_as(indicator))
