"""benchmarks/roofline.py: its counts against counts by hand."""

import importlib

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT


def test_flops_bytes_and_fusion_are_those_of_a_hand_count(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    roofline = importlib.import_module("roofline")
    x, weight = torch.ones(6, 8).bfloat16().requires_grad_(), torch.ones(4, 8).bfloat16()

    def linear():
        F.linear(x * 2 + 1, weight).backward(torch.ones(6, 4).bfloat16())

    # 2 x 6 x 8 x 4 FLOPs forward and the same for x's gradient; 48, 32 and 24 numbers of two bytes each time
    counts = [roofline.record(linear, compiled) for compiled in (False, True)]
    for count in counts:
        assert count[roofline.Cost("matmul", 384, moved=208)] == 2
    assert counts[0][roofline.Cost("memory", moved=192)] >= 3  # x * 2, + 1, and the gradient of x * 2
    assert counts[1][roofline.Cost("memory", moved=192)] == 1  # both at once

    q = torch.ones(1, 3, 16, 32).bfloat16().requires_grad_()
    found = roofline.record(lambda: F.scaled_dot_product_attention(q, q, q).sum().backward())
    flops = {cost.kind: cost.flops for cost in found if cost.heads == 3}
    assert flops == {"attention": 2 * 49152, "attention backward": 5 * 49152}  # products of 2 x 3 x 16 x 16 x 32
    # 9 splits x 16 heads are two rounds on 132 processors, of 27 columns of 128 keys each
    assert roofline.deterministic_part(16, 243 * 128, 132) == pytest.approx(16 * 243 / (132 * 2 * 27))
