"""Prompts and first frames to videos. A video appears in its folder only when whole; what is there is not made again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from cosmos_exp.data.video import write_video
from cosmos_exp.errors import RunError
from cosmos_exp.generation.guidance import GuidedForward
from cosmos_exp.world.fast_forward import fast_forward
from cosmos_exp.world.sizes import latent_shape


@dataclass(frozen=True)
class VideoTask:
    """One video to make: `frames` gives the condition, uint8 (k, H, W, 3), when called."""

    sample: str
    seed: int
    prompt: str
    path: Path
    frames: Callable[[], np.ndarray]


def start_noise(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Start noise (1, C, T, H, W) fp32 as the reference draws it: numpy's frozen generator, whatever the GPU."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((1, *shape)).astype(np.float32))


class Generator:
    """Makes videos with one pipeline; `prompt(text or None)` gives projected prompts (tokens, channels)."""

    def __init__(self, config: Any, pipe: Any, prompt: Callable[[str | None], torch.Tensor], device: torch.device):
        self.config, self.pipe, self.prompt, self.device = config, pipe, prompt, device
        data = config.data
        self.shape = latent_shape(config.model.z_dim, data.num_frames, data.height, data.width)
        hardware = config.hardware
        forward = fast_forward(pipe.transformer, hardware.compile)
        self.guided = GuidedForward(forward.forward, hardware.guidance == "one_batch")
        # The pipeline stays diffusers' own; only what it calls a step is ours.
        pipe.transformer.forward = self.guided

    def make(self, tasks: list[VideoTask], negative: str | None, show: bool = True) -> int:
        """Make the videos that are not there yet; returns how many.

        Raises:
            RunError: the guardrail refuses a prompt.
        """
        left = [t for t in tasks if not t.path.is_file()]
        unsafe = [t.prompt for t in left if not self.pipe.safety_checker.check_text_safety(t.prompt)]
        if unsafe:
            raise RunError(f"the guardrail refuses the prompt {unsafe[0]!r}; change or remove it")
        with ThreadPoolExecutor(1, "write") as writer:  # one video is compressed while the next is sampled
            writing: Future | None = None
            for task in tqdm(left, desc="generating", unit="video", initial=0, disable=None if show else True):
                frames = self.frames(task, negative)
                if writing:
                    writing.result()
                generation = self.config.generation
                writing = writer.submit(write_video, task.path, frames, generation.fps, generation.crf)
            if writing:
                writing.result()
        return len(left)

    @torch.no_grad()
    def frames(self, task: VideoTask, negative: str | None) -> np.ndarray:
        """Sample one video: uint8 (T, H, W, 3)."""
        generation, data = self.config.generation, self.config.data
        given = task.frames()
        dtype = self.pipe.transformer.dtype
        words: dict[str, Any] = (
            {"image": given[0]}
            if generation.mode == "image2world"
            else {"video": _pipeline_video(given), "num_latent_conditional_frames": 2}
        )
        timestep = self.config.training.condition_timestep
        negative_embeds = self.prompt(negative)[None].to(self.device, dtype)
        self.guided.negative = negative_embeds if generation.guidance_scale > 1 else None
        result = self.pipe(
            **words,
            prompt_embeds=self.prompt(task.prompt)[None].to(self.device, dtype),
            negative_prompt_embeds=negative_embeds,
            latents=start_noise(task.seed, self.shape),
            height=data.height,
            width=data.width,
            num_frames=data.num_frames,
            num_inference_steps=generation.num_steps,
            guidance_scale=generation.guidance_scale,
            conditional_frame_timestep=-1.0 if timestep is None else timestep,
            output_type="np",
        ).frames[0]
        return np.clip(np.asarray(result) * 255 + 0.5, 0, 255).astype(np.uint8)


def _pipeline_video(frames: np.ndarray) -> torch.Tensor:
    """(1, 3, T, H, W) in [-1, 1], which the pipeline takes as prepared."""
    return torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float().div(127.5).sub(1.0)


def condition_frames(mode: str) -> int:
    """Pixel frames that a mode conditions on: one, or the five that two latent frames hold."""
    return 1 if mode == "image2world" else 5
