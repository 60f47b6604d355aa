"""Train the inverse dynamics model from nothing: python -m benchmarks.idm [--out FILE].

Renders --clips clips (kept in --work), trains for --steps steps and writes a TorchScript file. The shipped file is made by
the defaults, on one CPU core. `python -m benchmarks.idm.figures` measures it on clips that it has not seen.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from benchmarks.common import command_line
from benchmarks.idm.actions import ACTIONS, IDM_FILE, mirrored
from benchmarks.idm.clips import Clips, blurred, mirrored_marks, rendered_clips
from benchmarks.idm.network import KEYPOINTS, MARKS, InverseDynamics
from cosmos_exp.files import append_json_line, atomic_path
from cosmos_exp.tabletop.scene import Scene

LR, BATCH, WARMUP_STEPS = 3e-3, 8, 50
MARK_SCALE = 5.0  # marks lie within a fifth of the picture, actions are scaled to unit spread
LOG_STEPS = 50


def train(clips: Clips, steps: int, curve: Path) -> InverseDynamics:
    """The trained network. A row every LOG_STEPS steps is written to the file `curve`."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    flat = clips.actions.reshape(-1, clips.actions.shape[-1])
    model = InverseDynamics(torch.from_numpy(flat.mean(0)), torch.from_numpy(flat.std(0) + 1e-3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    losses, start = [], time.perf_counter()
    for step in tqdm(range(1, steps + 1), desc="inverse dynamics", unit="step", disable=None):
        losses.append(train_step(model, optimizer, batch(clips, rng)))
        schedule.step()
        if step % LOG_STEPS == 0 or step == steps:
            action, mark = np.mean(losses[-LOG_STEPS:], axis=0).tolist()
            row = {"step": step, "seconds": round(time.perf_counter() - start, 1), "loss": action, "mark_loss": mark}
            append_json_line(curve, row)
    return model.eval()


def train_step(model: InverseDynamics, optimizer: torch.optim.Optimizer, batch: Clips) -> tuple[float, float]:
    """One optimizer step; returns the losses of the actions and of the marks."""
    video, actions, marks = (torch.from_numpy(part) for part in (batch.frames, batch.actions, batch.marks))
    video = video.permute(0, 1, 4, 2, 3).float() / 255
    with torch.autocast("cpu", torch.bfloat16):
        points = model.points(video)
    points = points.float()
    error = (model.over_time(points) - actions) / model.scale
    off = MARK_SCALE * (torch.stack([points[..., :MARKS], points[..., KEYPOINTS : KEYPOINTS + MARKS]], dim=-1) - marks)
    action_loss = functional.smooth_l1_loss(error, torch.zeros_like(error), beta=0.1)
    mark_loss = functional.smooth_l1_loss(off, torch.zeros_like(off), beta=0.1)
    optimizer.zero_grad(set_to_none=True)
    (action_loss + mark_loss).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return action_loss.item(), mark_loss.item()


def _rate(step: int, steps: int) -> float:
    """Factor of the learning rate: linear warm-up, then half a cosine down to 1 %."""
    return min(1.0, (step + 1) / WARMUP_STEPS) * (0.505 + 0.495 * math.cos(math.pi * min(step / steps, 1.0)))


def batch(clips: Clips, rng: np.random.Generator) -> Clips:
    """Random clips with random blur, gain, grain and mirroring."""
    chosen = []
    for k in rng.integers(len(clips.frames), size=BATCH):
        video, action, mark = blurred(clips.frames[k], rng), clips.actions[k], clips.marks[k]
        if rng.uniform() < 0.5:
            video, action, mark = video[:, :, ::-1], mirrored(action), mirrored_marks(mark)
        chosen.append((video, action, mark))
    return Clips(*map(np.stack, zip(*chosen, strict=True)))


def save(model: InverseDynamics, path: Path, scene: Scene) -> None:
    """Write the TorchScript file with its declaration `idm.json`, for clips like those of `scene`."""
    height, width = scene.size
    declared = {"frames": scene.num_frames, "height": height, "width": width, "fps": scene.fps, "state": list(ACTIONS)}
    # TorchScript: the format that other loaders take
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        script = torch.jit.script(model)
        with atomic_path(path) as temporary:
            torch.jit.save(script, str(temporary), _extra_files={"idm.json": json.dumps(declared)})


def main() -> None:
    """Render, train, write."""
    parser = command_line(__doc__)
    work = Path.home() / ".cache" / "cosmos_exp" / "idm"
    parser.add_argument("--out", type=Path, default=IDM_FILE, help="file to write")
    parser.add_argument("--work", type=Path, default=work, help="folder of rendered clips and the training curve")
    parser.add_argument("--clips", type=int, default=800, help="clips to render")
    parser.add_argument("--steps", type=int, default=1400, help="training steps of 8 clips")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips, curve = rendered_clips(options.work / "clips", options.clips), options.work / "curve.jsonl"
    curve.unlink(missing_ok=True)
    model = train(clips, options.steps, curve)
    save(model, options.out, Scene.sample(0, "robot"))
    print(f"written: {options.out}. Measure it with python -m benchmarks.idm.figures")


if __name__ == "__main__":
    main()
