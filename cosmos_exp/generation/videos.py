"""Videos from prompts and conditioning frames. Files are written atomically; existing files are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import Cosmos2_5_PredictBasePipeline

from cosmos_exp.config.rollout import OVERLAP
from cosmos_exp.config.schema import Config
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import RunError
from cosmos_exp.generation.guidance import GuidedForward
from cosmos_exp.rng import noise
from cosmos_exp.tracking.progress import with_progress
from cosmos_exp.world.fast_forward import fast_forward
from cosmos_exp.world.hardware import latent_shape
from cosmos_exp.world.loading import to_unit_range

Prompts = Callable[[str | None], torch.Tensor]  # text, or None for the zero embedding, to (tokens, channels)


@dataclass(frozen=True)
class VideoTask:
    """One video to generate.

    sample: name of the test pair.
    seed: of the start noise.
    path: the file to write.
    frames: returns the conditioning frames, uint8 (k, H, W, 3); called when the video is generated.
    prompts: of the chunks; empty: `prompt` for each of generation.chunks.
    """

    sample: str
    seed: int
    prompt: str
    path: Path
    frames: Callable[[], np.ndarray]
    prompts: tuple[str, ...] = ()


def num_conditioning_frames(config: Config) -> int:
    """Conditioning pixel frames of generation.mode: one, or the five that two latent frames hold."""
    return 1 if config.generation.mode == "image2world" else OVERLAP


def start_noise(seed: int, shape: tuple[int, ...], chunk: int = 0) -> torch.Tensor:
    """Start noise (1, C, T, H, W) fp32 on the CPU, from numpy's frozen generators.

    Args:
        chunk: 0: the reference's draw; the later chunks of a seed have streams of their own, so that no chunk shares its
            noise with a chunk of another seed.
    """
    if chunk:
        return torch.from_numpy(noise(seed, chunk, (1, *shape), "chunk"))
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((1, *shape)).astype(np.float32))


class Generator:
    """Generates videos with one pipeline.

    Args:
        pipe: from `load_pipeline`. Its transformer's forward pass is replaced; the pipeline is not changed.
        prompt: returns projected prompts.
        device: of the pipeline.
    """

    def __init__(self, config: Config, pipe: Cosmos2_5_PredictBasePipeline, prompt: Prompts, device: torch.device):
        self.config, self.pipe, self.prompt, self.device = config, pipe, prompt, device
        hardware = config.hardware
        self.shape = latent_shape(config)
        forward = fast_forward(pipe.transformer, hardware.compile)
        self.guided = GuidedForward(forward.forward, hardware.guidance == "one_batch")
        pipe.transformer.forward = self.guided

    def make(self, tasks: Sequence[VideoTask], negative: str | None) -> int:
        """Generate and write the videos whose files do not exist.

        Args:
            negative: the negative prompt; None: the zero embedding.

        Returns:
            how many were generated.

        Raises:
            RunError: the guardrail refuses a prompt.
        """
        missing = [t for t in tasks if not t.path.is_file()]
        safe: set[str] = set()
        for task in missing:
            for prompt in task.prompts or (task.prompt,):
                if prompt not in safe and not self.pipe.safety_checker.check_text_safety(prompt):
                    raise RunError(f"the guardrail refuses the prompt {prompt!r}; change or remove it")
                safe.add(prompt)
        generation = self.config.generation
        with ThreadPoolExecutor(1, "write") as writer:  # one video is compressed while the next is sampled
            writing: Future[None] | None = None
            for task in with_progress(missing, "generating", len(missing), "video"):
                frames = self.frames(task, negative)
                if writing:
                    writing.result()
                writing = writer.submit(write_video, task.path, frames, generation.fps, generation.crf)
            if writing:
                writing.result()
        return len(missing)

    def frames(self, task: VideoTask, negative: str | None) -> np.ndarray:
        """Sample one video: uint8 (T, H, W, 3) RGB.

        Each chunk after the first is conditioned on the last frames of the one before, as they were generated. They appear
        once: what the autoencoder makes of them in the next chunk is dropped.
        """
        first, *others = task.prompts or (task.prompt,) * self.config.generation.chunks
        video = self._sample(task.frames(), first, negative, start_noise(task.seed, self.shape))
        for number, prompt in enumerate(others, 1):
            chunk = self._sample(video[-OVERLAP:], prompt, negative, start_noise(task.seed, self.shape, number))
            video = np.concatenate([video, chunk[OVERLAP:]])
        return video

    @torch.no_grad()
    def _sample(self, given: np.ndarray, prompt: str, negative: str | None, latents: torch.Tensor) -> np.ndarray:
        """Sample one chunk: uint8 (data.num_frames, H, W, 3) RGB.

        Args:
            given: conditioning frames, uint8 (k, H, W, 3).
            latents: the start noise.
        """
        generation, data = self.config.generation, self.config.data
        dtype = self.pipe.transformer.dtype
        timestep = self.config.training.condition_timestep
        if timestep is None:
            timestep = -1.0  # of the pipeline: as the frames that are generated
        negative_embeds = self.prompt(negative)[None].to(self.device, dtype)
        self.guided.negative = negative_embeds if generation.guidance_scale > 1 else None
        result = self.pipe(
            **_condition(given),
            prompt_embeds=self.prompt(prompt)[None].to(self.device, dtype),
            negative_prompt_embeds=negative_embeds,
            latents=latents,
            height=data.height,
            width=data.width,
            num_frames=data.num_frames,
            num_inference_steps=generation.num_steps,
            guidance_scale=generation.guidance_scale,
            conditional_frame_timestep=timestep,
            output_type="np",
        ).frames[0]
        return np.clip(np.asarray(result) * 255 + 0.5, 0, 255).astype(np.uint8)


def _condition(frames: np.ndarray) -> dict[str, np.ndarray | torch.Tensor | int]:
    """The pipeline's arguments for conditioning frames uint8 (k, H, W, 3): one image, or the frames of two latent frames."""
    if len(frames) == 1:
        return {"image": frames[0]}
    return {"video": to_unit_range(frames)[None], "num_latent_conditional_frames": 2}
