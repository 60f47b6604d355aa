"""The optimizer step: the power EMA's closed form, non-finite gradients, clipping, and resuming, against torch's AdamW."""

import numpy as np
import pytest
import torch

from cosmos_exp.config.schema import Training
from cosmos_exp.errors import RunError
from cosmos_exp.training.log import StepFigures
from cosmos_exp.training.optimizer import AdapterOptimizer


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


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_a_bad_entry_is_reported_or_as_asked_zero(bad):
    """Over several steps, with a bad entry in the second: the moments stay finite too."""
    optimizer = AdapterOptimizer(parameters(), Training())
    optimizer.parameters["a"].grad = torch.tensor([bad, 0.3, 0.0])
    figures = StepFigures(0, [(0, 0)], 0.1, 0.0)
    figures.send(torch.tensor([0.5]), optimizer.step(0.1, 0), torch.zeros(1))
    with pytest.raises(RunError, match="zero_nonfinite_grads=true"):
        figures.read(str)
    training = Training(zero_nonfinite_grads=True)
    gradients = [gradient(0), torch.tensor([bad, 0.3, -0.7]), gradient(2)]
    optimizer = AdapterOptimizer(parameters(), training)
    take(optimizer, gradients)
    zeroed = [gradients[0], torch.tensor([0.0, 0.3, -0.7]), gradients[2]]
    assert torch.allclose(optimizer.parameters["a"].data, plain(training, zeroed)[-1], atol=1e-7)


def test_the_gradient_is_clipped_and_the_norm_before_is_returned():
    """AdamW's first step hardly depends on the gradient's scale, so clipping is seen where gradients differ in size."""
    gradients = [torch.tensor([3.0, 4.0, 0.0]), torch.tensor([30.0, -40.0, 5.0]), torch.tensor([0.1, 0.2, 0.3])]
    clipped, free = Training(max_grad_norm=0.5), Training(max_grad_norm=1e9)
    optimizer = AdapterOptimizer(parameters(), clipped)
    optimizer.parameters["a"].grad = gradients[0].clone()
    assert optimizer.step(0.1, 0).item() == pytest.approx(5.0)
    take(optimizer, gradients[1:], first=1)
    assert torch.allclose(optimizer.parameters["a"].data, plain(clipped, gradients)[-1], atol=1e-7)
    assert not torch.allclose(plain(clipped, gradients)[-1], plain(free, gradients)[-1], atol=1e-2)
