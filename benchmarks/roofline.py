"""Predicted seconds of a training step and of a video at the full size, operator by operator, without a GPU.

    python benchmarks/roofline.py                 two minutes on one core; writes results/roofline.md

The real classes run on tensors without content, and of every operator FLOPs and bytes are counted. Its time is the larger of
FLOPs / (peak x efficiency of its kind) and bytes / (bandwidth x MEMORY), at least LAUNCH. Compiled: all that lies between
two products is one kernel, which reads and writes only what enters and leaves it. Three constants (efficiency of matrix
products, that of attention relative to its published rate, seconds of a video outside the model) are fitted to the rows of
published_times.csv that say so. Not counted: optimizer (1 ms), text encoder, reading of data, guardrail.

published_times.csv: others' measurements. video, training: nvidia-cosmos/cosmos-predict2, documentations/performance.md and
post-training_video2world_agibot_fisheye.md (35 steps with guidance; batch 1 on two GPUs). reference: 17 h for 9,200 samples.
gpus.csv: data sheets (dense bf16 FLOP/s, bytes per second, processors, bytes per second between GPUs); attention as part of
the peak at head size 128: FlashAttention-3 (arXiv:2407.08608, H100, 16k tokens), before Hopper FlashAttention-2 (2307.08691).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from common import RESULTS, command_line, table
from diffusers import AutoencoderKLWan
from memory import fill, meta_model
from scipy.optimize import least_squares
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.layers import transformer_config
from cosmos_exp.world.fast_forward import fast_forward
from cosmos_exp.world.hardware import memory_estimate

HERE = Path(__file__).parent
GPUS = pd.read_csv(HERE / "gpus.csv", index_col="gpu")
SIZES = {"480p": (24, 54, 96), "720p": (24, 88, 160), "720p 61": (16, 88, 160)}  # latents: frames, rows, columns
DEPTH = {"2b": 28, "14b": 36}
LAUNCH, MEMORY, CONVOLUTION = (
    4e-6,
    0.9,
    0.4,
)  # seconds, parts of bandwidth and peak: assumed, the data do not determine them

aten = torch.ops.aten
ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: ("attention", sdpa_flop),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: ("attention backward", sdpa_backward_flop),
}
NO_KERNEL = {"prim::device", "aten::_unsafe_view", "aten::empty", "aten::empty_like", "aten::new_empty", "aten::detach"}


class Cost(NamedTuple):
    """kind: matmul, attention, attention backward, convolution or memory. heads, keys: of attention; heads of all samples."""

    kind: str
    flops: float = 0.0
    heads: int = 0
    keys: int = 0
    moved: int = 0


class Operator(NamedTuple):
    """reads, writes: bytes of each storage."""

    cost: Cost
    reads: dict[int, int]
    writes: dict[int, int]


class Recorder(TorchDispatchMode):
    """Every operator that runs a kernel, in order."""

    def __init__(self):
        super().__init__()
        self.operators = []
        self.alive = []  # so that no storage's address is used twice

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        packet = function.overloadpacket
        if function.is_view or function._schema.name in NO_KERNEL:
            return out
        cost = Cost("memory")
        if packet in ATTENTION:
            kind, formula = ATTENTION[packet]
            tensors = args[: 3 if kind == "attention" else 4]
            heads = tensors[0].shape[0] * tensors[0].shape[1]
            cost = Cost(kind, formula(*tensors, out_val=out), heads, tensors[-1].shape[2])
        elif packet in flop_registry:
            kind = "convolution" if "conv" in packet.__name__ else "matmul"
            cost = Cost(kind, flop_registry[packet](*args, **kwargs, out_val=out))
        self.operators.append(Operator(cost, self.sizes((args, kwargs)), self.sizes(out)))
        return out

    def sizes(self, tree: Any) -> dict[int, int]:
        """Bytes by storage; an expanded tensor counts what it holds."""
        found = {}
        for tensor in tree_iter(tree):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.alive.append(storage)
                found[storage._cdata] = min(tensor.numel() * tensor.itemsize, storage.nbytes())
        return found


def record(work: Callable, compiled: bool = False) -> Counter:
    """How often each cost occurs in `work` under bf16 autocast."""
    with torch.autocast("cpu", dtype=torch.bfloat16), Recorder() as recorder:
        work()
    found = Counter()
    for operator in fused(recorder.operators) if compiled else recorder.operators:
        moved = sum(operator.reads.values()) + sum(operator.writes.values())
        found[operator.cost._replace(moved=moved)] += 1
    return found


def fused(operators: Sequence[Operator]) -> Iterator[Operator]:
    """The operators when compiled."""
    last_read, reads, writes = {}, {}, {}
    for place, operator in enumerate(operators):
        last_read |= dict.fromkeys(operator.reads, place)
    for place, operator in enumerate([*operators, Operator(Cost("matmul"), {}, {})]):
        if operator.cost.kind == "memory":
            reads |= {key: size for key, size in operator.reads.items() if key not in writes}
            writes |= operator.writes
            continue
        kept = {key: size for key, size in writes.items() if last_read.get(key, 0) > place}
        yield Operator(Cost("memory"), reads, kept)
        yield operator
        reads, writes = {}, {}


def configured(model: str, way: str, *words: str) -> Any:
    """A run's configuration with DoRA if way is dora, LoRA otherwise."""
    kind = "dora" if way == "dora" else "lora"
    return compose_config([f"model=cosmos_predict25_{model}", "data=gr1_100", "rank=32", f"adapter={kind}", *words])


@cache
def transformer(model: str, way: str, policy: str, compiled: bool, size: str, layers: int) -> Counter:
    """One pass. way: lora, dora: our step; reference: plain diffusers; all: all weights trained; forward: no adapter, no gradient."""
    net, shape = meta_model(configured(model, way), layers), SIZES[size]
    with FakeTensorMode(allow_non_fake_inputs=True):
        fill(net, lambda shape, dtype: torch.empty(shape, dtype=dtype))
        if way in ("all", "forward"):
            net.disable_adapters()
            net.requires_grad_(way == "all")
        for module in net.modules():
            if isinstance(module, torch.nn.LayerNorm):  # CUDA's autocast runs it in fp32, the CPU's in bf16
                module.register_forward_pre_hook(lambda module, inputs: (inputs[0].float(),))
        inputs = {
            "hidden_states": torch.randn(1, 16, *shape),
            "condition_mask": torch.zeros(1, 1, *shape),
            "timestep": torch.rand(1, 1, shape[0], 1, 1),
            "encoder_hidden_states": torch.randn(1, 512, 1024).bfloat16(),
            "padding_mask": torch.zeros(1, 1, 8 * shape[1], 8 * shape[2]).bfloat16(),
        }
        forward = fast_forward(net, checkpointing=policy)
        if way == "reference":
            net.enable_gradient_checkpointing()
            forward = net.train()

        def work():
            loss = forward(**inputs, return_dict=False)[0].float().square().mean()
            if loss.requires_grad:
                loss.backward()

        return record(work, compiled)


@cache
def vae(way: str, size: str) -> Counter:
    """The autoencoder's decode or encode of one clip."""
    frames, rows, columns = SIZES[size]
    with torch.device("meta"):
        net = AutoencoderKLWan().requires_grad_(False)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fill(net, lambda shape, dtype: torch.empty(shape, dtype=dtype))
        if way == "decode":
            return record(lambda: net.decode(torch.randn(1, 16, *SIZES[size]).bfloat16()))
        return record(lambda: net.encode(torch.randn(1, 3, 4 * frames - 3, 8 * rows, 8 * columns).bfloat16()))


def deterministic_part(heads: int, keys: int, processors: int) -> float:
    """Part of its speed that flash's backward pass keeps if deterministic.

    It runs heads x splits blocks, splits = ceil(processors / heads), one on a processor at a time, and a block takes
    ceil(columns / splits) columns of 128 keys one after another (flash_bwd_launch_template.h).
    """
    splits, columns = math.ceil(processors / heads), keys / 128
    rounds = math.ceil(heads * splits / processors) * math.ceil(columns / splits)
    return heads * columns / (processors * rounds)


def seconds(costs: Counter[Cost], name: str, kernel: str, constants: np.ndarray) -> Counter:
    """By kind of operator on GPU `name`.

    Args:
        kernel: a column of gpus.csv; "flash deterministic"; "flash deterministic N": N heads in each call.
    """
    gpu, (family, *deterministic) = GPUS.loc[name], kernel.split()
    parts = {"matmul": constants[0], "convolution": CONVOLUTION, "memory": 1.0, "attention": constants[1] * gpu[family]}
    parts["attention backward"] = constants[1] * gpu[f"{family} backward"]
    found = Counter()
    for cost, count in costs.items():
        part = parts[cost.kind]
        if cost.kind == "attention backward" and deterministic:
            heads = int(deterministic[1]) if deterministic[1:] else cost.heads
            part *= deterministic_part(heads, cost.keys, gpu.processors)
        found[cost.kind] += count * max(cost.flops / gpu.peak / part, cost.moved / gpu.bandwidth / MEMORY, LAUNCH)
    return found


def one_pass(row: Any, policies: Sequence[str], constants: np.ndarray) -> Counter:
    """Seconds by kind of the transformer pass that `row` describes, one checkpointing policy per block.

    Blocks are alike, so passes of one and of two of them are counted.
    """
    found = Counter()
    for policy, count in Counter(policies).items():
        one, two = (
            seconds(
                transformer(row.model, row.way, policy, row.compiled, row.size, layers), row.gpu, row.kernel, constants
            )
            for layers in (1, 2)
        )
        for kind in two:
            found[kind] += count * (two[kind] - one[kind])
    for kind in two:  # what is outside the blocks
        found[kind] += 2 * one[kind] - two[kind]
    return found


def predicted(row: Any, constants: np.ndarray) -> float:
    """Seconds of a row of published_times.csv."""
    passes = row.passes * one_pass(row, [row.policy] * DEPTH[row.model], constants).total()
    around = seconds(vae(row.vae, row.size), row.gpu, row.kernel, constants).total()
    return passes + around + row.fixed * constants[2]


def fit(times: pd.DataFrame) -> np.ndarray:
    """The three constants with the smallest relative misses."""

    def misses(constants: np.ndarray) -> list[float]:
        return [math.log(predicted(row, constants) / row.seconds) for row in times.itertuples()]

    return least_squares(misses, (0.7, 1.0, 5.0)).x


def compare(times: pd.DataFrame, constants: np.ndarray) -> pd.DataFrame:
    """Published beside predicted; fitted rows as predicted from the fitted rows of other models and sizes."""
    fitted, found = (times[times.fitted], times[["work", "gpu", "model", "size", "kernel", "fitted", "seconds"]].copy())
    for row in times.itertuples():
        others = fitted[(fitted.model != row.model) | (fitted["size"] != row.size)]
        guess = predicted(row, fit(others) if row.fitted else constants)
        found.loc[row.Index, ["predicted", "miss, %"]] = guess, 100 * (guess / row.seconds - 1)
    return found


@cache
def plan(gpu: str, model: str, way: str, compiled: bool) -> list[str]:
    """Checkpointing as hardware.checkpointing=auto plans it; nothing if the GPU is too small."""
    if way in ("forward", "reference"):
        return ["full" if way == "reference" else "none"] * DEPTH[model]
    memory = GPUS.memory_gb[gpu]
    config = configured(model, way, "hardware=1xh100", f"hardware.memory_gb={memory}", f"hardware.compile={compiled}")
    net = meta_model(config)
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    gib, policies = memory_estimate(
        transformer_config(config.model),
        net.num_parameters() - trained,
        trained,
        31104,
        config.hardware,
        1,
        way == "dora",
    )
    return policies if gib < memory else []


def ours(constants: np.ndarray) -> pd.DataFrame:
    """Predictions for steps and, as `forward`, for videos of 36 steps with guidance."""
    rows = []
    kernels = "flash deterministic", "flash deterministic 4", "flash", "cudnn"
    for gpu, model, way in itertools.product(GPUS.index[:5], DEPTH, ("reference", "lora", "dora", "forward")):
        for compiled, kernel in itertools.product((False, True), kernels):
            policies = plan(gpu, model, "lora", compiled) and plan(gpu, model, way, compiled)
            unknown = math.isnan(GPUS[kernel.split()[0]][gpu]) or not policies
            if unknown or (compiled and way == "reference") or ("det" in kernel and way == "forward"):
                continue
            case = SimpleNamespace(gpu=gpu, model=model, way=way, kernel=kernel, compiled=compiled, size="480p")
            found = one_pass(case, policies, constants)
            if way == "forward":
                found = Counter({kind: 72 * value for kind, value in found.items()})
                found += seconds(vae("decode", "480p"), gpu, kernel, constants)
            rows.append(vars(case) | {"blocks": dict(Counter(policies)), "seconds": found.total(), **found})
    return pd.DataFrame(rows)


def main():
    """Fit, predict, write the tables."""
    command_line(__doc__).parse_args()
    times = pd.read_csv(HERE / "published_times.csv")
    constants = fit(times[times.fitted])
    text = "# Predicted times\n\nFitted: matrix products {:.2f} of peak, attention {:.2f} of its published rate, {:.1f} s".format(
        *constants
    )
    for title, rows in (("Published times", compare(times, constants)), ("Predictions", ours(constants))):
        text += f"\n\n## {title}\n\n{table(rows.to_dict('records'), '.3g')}"
    print(text)
    (RESULTS / "roofline.md").write_text(f"{text}\n")


if __name__ == "__main__":
    main()
