"""Memory of a training step of the full 2B (or 14B) model, counted without a GPU.

    python benchmarks/memory.py [--model cosmos_predict25_2b] [--kinds lora,dora] [--compiled]

Eager: the real classes run forward, backward and AdamW on tensors without content (FakeTensorMode), and the sizes of all
live storages are added. A GPU needs 1 to 2 GiB more for fragmentation and workspaces. --compiled: what one compiled block
keeps for its backward pass, measured on this CPU with few tokens and scaled by tokens and width. Both are the source of
the numbers in cosmos_exp/world/hardware.py; `cosmos-exp run … dry_run=true` prints its estimate.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from common import command_line, device_name, machine_line, table, write
from diffusers import CosmosTransformer3DModel
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.layers import transformer_config
from cosmos_exp.config.schema import Config
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.fast_forward import fast_forward
from cosmos_exp.world.hardware import POLICIES, latent_shape, num_tokens

FEW = (12, 16, 24)  # frames, rows and columns of a small latent


class LiveBytes(TorchDispatchMode):
    """Bytes of all live storages, now and at the peak."""

    def __init__(self) -> None:
        super().__init__()
        self.known = {}
        self.now = self.peak = 0

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if id(storage) not in self.known:
            self.known[id(storage)] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.drop, id(storage))

    def drop(self, key: int) -> None:
        self.now -= self.known.pop(key)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return out


def meta_model(config: Config, layers: int | None = None) -> CosmosTransformer3DModel:
    """The transformer with its adapter on the meta device; it takes projected prompts."""
    keys = transformer_config(config.model)
    keys["num_layers"] = layers or keys["num_layers"]
    with torch.device("meta"):
        model = CosmosTransformer3DModel(
            **keys,
            extra_pos_embed_type=None,
            use_crossattn_projection=False,
            encoder_hidden_states_channels=keys["text_embed_dim"],
        ).requires_grad_(False)
        model.crossattn_proj = torch.nn.Identity()
        adapters.inject(model, config.adapter, 0)
    return model


def fill(model: torch.nn.Module, make: Callable[[torch.Size, torch.dtype], torch.Tensor]) -> None:
    """Give every parameter and buffer a tensor made by `make(shape, dtype)`: base bf16, adapter fp32."""
    # `_parameters` and `_buffers` are private: there is no public way to replace a tensor and keep its name. torch 2.6 to 2.12.
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, old in tensors.items():
                if old is None:
                    continue
                new = make(old.shape, torch.float32 if old.requires_grad else torch.bfloat16)
                tensors[name] = torch.nn.Parameter(new, old.requires_grad) if tensors is module._parameters else new


def whole_step(config: Config, policy: str) -> tuple[float, float]:
    """GiB after the forward pass, and at the peak of forward, backward and AdamW; the second step, moments included."""
    channels, frames, rows, columns = latent_shape(config)
    model = meta_model(config)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fill(model, lambda shape, dtype: torch.empty(shape, dtype=dtype))
        parameters = [p for p in model.parameters() if p.requires_grad]
        forward = fast_forward(model, checkpointing=policy)
        optimizer = torch.optim.AdamW(parameters, lr=1e-4)
        latent, mask = torch.randn(1, channels, frames, rows, columns), torch.zeros(1, 1, frames, rows, columns)
        prompt = torch.randn(
            1, config.model.prompt_tokens, config.model.transformer.text_embed_dim, dtype=torch.bfloat16
        )
        masks = {"condition_mask": mask, "padding_mask": torch.zeros(1, 1, rows, columns)}
        live, kept = LiveBytes(), 0
        for tensor in (*model.parameters(), *model.buffers(), latent, mask, prompt):
            live.add(tensor)
        with live:
            for _ in range(2):
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    velocity = forward(latent, torch.rand(1, 1, frames, 1, 1), prompt, **masks)[0]
                    loss = velocity.float().square().mean()
                kept = live.now
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
    return kept / 2**30, live.peak / 2**30


def compiled_rows(config: Config, policy: str) -> float:
    """Rows of (tokens x hidden, bf16) that a compiled block keeps: the difference of two blocks and one, with few tokens."""
    hidden = config.model.transformer.num_attention_heads * config.model.transformer.attention_head_dim
    return (kept_bytes(config, policy, 2) - kept_bytes(config, policy, 1)) / (num_tokens((1, *FEW)) * hidden * 2)


def kept_bytes(config: Config, policy: str, layers: int) -> int:
    """Bytes that a compiled forward pass of a FEW latent keeps for the backward pass, without the weights."""
    torch._dynamo.reset()
    model = meta_model(config, layers)
    torch.manual_seed(0)
    fill(model, lambda shape, dtype: torch.randn(shape).mul_(0.02).to(dtype))
    fixed = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    forward = fast_forward(model, compiled=True, checkpointing=policy)
    seen, held = {}, []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in fixed:
            seen[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)  # so that no address is reused
        return tensor

    prompt = torch.randn(1, 64, config.model.transformer.text_embed_dim, dtype=torch.bfloat16)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), torch.autocast("cpu", dtype=torch.bfloat16):
        masks = {"condition_mask": torch.zeros(1, 1, *FEW), "padding_mask": torch.zeros(1, 1, *FEW[1:])}
        forward(torch.randn(1, config.model.z_dim, *FEW), torch.rand(1, 1, FEW[0], 1, 1), prompt, **masks)
    return sum(seen.values())


def main() -> None:
    """Count, print the table, write it."""
    parser = command_line(__doc__)
    parser.add_argument("--model", default="cosmos_predict25_2b")
    parser.add_argument("--kinds", default="lora,dora")
    parser.add_argument("--compiled", action="store_true")
    args = parser.parse_args()
    rows = []
    for kind in args.kinds.split(","):
        config = compose_config([f"model={args.model}", "data=gr1_100", "rank=32", f"adapter={kind}"])
        for policy in POLICIES:
            row = {"adapter": kind, "checkpointing": policy}
            row["after forward, GiB"], row["peak_gib"] = whole_step(config, policy)
            if args.compiled:
                row["rows that a compiled block keeps"] = compiled_rows(config, policy)
            print(row, flush=True)
            rows.append(row)
    text = f"{machine_line()}; {args.model}, 432x768x93, batch 1, rank 32, bf16 base, fp32 adapter and AdamW.\n\n{table(rows, '.1f')}"
    title = f"Memory of a training step, counted on {device_name()}"
    write(f"memory_{args.model}", title, text, rows)


if __name__ == "__main__":
    main()
