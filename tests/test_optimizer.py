"""The optimizer step: the power EMA's closed form, non-finite gradients, clipping, and resuming, against torch's AdamW."""

import numpy as np
import pytest
import torch

from cosmos_exp.config.schema import Training
from cosmos_exp.errors import RunError
from cosmos_exp.training.log import StepFigures
from cosmos_exp.training.optimizer import AdapterOptimizer, power_ema_exponent


def parameters(values=(1.0, -2.0, 0.5)):
    return {"a": torch.nn.Parameter(torch.tensor(values))}


def gradient(step):
    return torch.tensor(np.random.RandomState(step).standard_normal(3), dtype=torch.float32)


def plain(training, gradients):
    """torch.optim.AdamW on the same clipped gradients; the parameters after each step."""
    own = parameters()["a"]
    adamw = torch.optim.AdamW([own], lr=0.1, weight_decay=training.weight_decay)
    seen = []
    for g in gradients:
        own.grad = g.clone()
        torch.nn.utils.clip_grad_norm_([own], training.max_grad_norm)
        adamw.step()
        seen.append(own.detach().clone())
    return seen


def take(optimizer, gradients, first=0):
    for step, g in enumerate(gradients, first):
        optimizer.parameters["a"].grad = g.clone()
        optimizer.step(0.1, step)


def test_gamma_is_that_of_the_paper():
    """Karras et al. 2024 (arXiv:2312.02696), section 3.1: relative widths 0.10 and 0.05 are gamma 6.94 and 16.97."""
    assert power_ema_exponent(0.10) == pytest.approx(6.94, abs=0.005)
    assert power_ema_exponent(0.05) == pytest.approx(16.97, abs=0.005)


def test_the_average_is_the_power_weighted_mean_of_all_steps():
    """Unrolled: theta_t has weight (1 - beta_t) times the product of all later betas."""
    training = Training(ema_power=0.10)
    optimizer = AdapterOptimizer(parameters(), training)
    gradients = [gradient(i) for i in range(7)]
    take(optimizer, gradients)
    gamma = np.roots([1, 7, 16 - 0.10**-2, 12 - 0.10**-2]).real.max()
    betas = [(1 - 1 / t) ** (gamma + 1) for t in range(1, 8)]
    weights = [(1 - b) * np.prod(betas[i + 1 :]) for i, b in enumerate(betas)]
    assert sum(weights) == pytest.approx(1.0)
    expected = sum(w * theta.double() for w, theta in zip(weights, plain(training, gradients), strict=True))
    assert torch.allclose(optimizer.average["a"].double(), expected, atol=1e-6)
    optimizer.use_average()
    assert torch.equal(optimizer.parameters["a"].data, optimizer.average["a"])


def test_entries_of_a_gradient_that_are_not_finite_become_zero():
    bad = torch.tensor([float("nan"), 0.3, float("-inf")])
    training = Training(zero_nonfinite_grads=True)
    optimizer = AdapterOptimizer(parameters(), training)
    take(optimizer, [bad])
    assert torch.allclose(optimizer.parameters["a"].data, plain(training, [torch.tensor([0.0, 0.3, 0.0])])[0])


def test_without_that_option_the_step_is_reported():
    own = parameters()
    own["a"].grad = torch.tensor([float("nan"), 0.3, 0.0])
    norm = AdapterOptimizer(own, Training()).step(0.1, 0)
    figures = StepFigures(0, [(0, 0)], 0.1, 0.0)
    figures.send(torch.tensor([0.5]), norm, torch.zeros(1))
    with pytest.raises(RunError, match="zero_nonfinite_grads=true"):
        figures.read(str)


def test_the_gradient_is_clipped_and_the_norm_before_is_returned():
    training = Training(max_grad_norm=0.5)
    own = parameters()
    own["a"].grad = torch.tensor([3.0, 4.0, 0.0])
    assert AdapterOptimizer(own, training).step(0.1, 0).item() == pytest.approx(5.0)
    assert torch.allclose(own["a"].data, plain(training, [torch.tensor([3.0, 4.0, 0.0])])[0])


def test_a_restored_optimizer_continues_as_an_uninterrupted_one():
    training = Training(ema_power=0.10)
    gradients = [gradient(i) for i in range(6)]
    whole = AdapterOptimizer(parameters(), training)
    take(whole, gradients)
    first = AdapterOptimizer(parameters(), training)
    take(first, gradients[:3])
    second = AdapterOptimizer(parameters((0.0, 0.0, 0.0)), training)
    second.load_state_dict(first.state_dict(), torch.device("cpu"))
    take(second, gradients[3:], first=3)
    assert torch.equal(second.parameters["a"].data, whole.parameters["a"].data)
    assert torch.equal(second.average["a"], whole.average["a"])


def test_gamma_gives_back_the_relative_width():
    """The relative width of the profile t^gamma is sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3))."""
    for width in (0.05, 0.10, 0.20):
        gamma = power_ema_exponent(width)
        assert (gamma + 1) ** 0.5 / ((gamma + 2) * (gamma + 3) ** 0.5) == pytest.approx(width, rel=1e-9)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_other_entries_are_updated_as_if_the_bad_one_were_zero(bad):
    """Over several steps, with a bad entry in the second: the moments stay finite too."""
    training = Training(zero_nonfinite_grads=True)
    gradients = [gradient(0), torch.tensor([bad, 0.3, -0.7]), gradient(2)]
    optimizer = AdapterOptimizer(parameters(), training)
    take(optimizer, gradients)
    zeroed = [gradients[0], torch.tensor([0.0, 0.3, -0.7]), gradients[2]]
    assert torch.allclose(optimizer.parameters["a"].data, plain(training, zeroed)[-1], atol=1e-7)


def test_clipping_changes_the_later_steps():
    """AdamW's first step hardly depends on the gradient's scale, so clipping is seen where gradients differ in size."""
    gradients = [torch.tensor([0.03, 0.04, 0.01]), torch.tensor([30.0, -40.0, 5.0]), torch.tensor([0.1, 0.2, 0.3])]
    training = Training(max_grad_norm=0.5)
    optimizer = AdapterOptimizer(parameters(), training)
    take(optimizer, gradients)
    assert torch.allclose(optimizer.parameters["a"].data, plain(training, gradients)[-1], atol=1e-7)
    assert not torch.allclose(
        plain(training, gradients)[-1], plain(Training(max_grad_norm=1e9), gradients)[-1], atol=1e-2
    )
