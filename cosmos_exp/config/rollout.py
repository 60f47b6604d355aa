"""The chunks of a video (`generation.chunks`): their frames and their prompts. Arithmetic, no torch."""

from __future__ import annotations

from dataclasses import dataclass

from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError

OVERLAP = 5  # frames in two latent frames: what a chunk is conditioned on, the last ones of the chunk before it


@dataclass(frozen=True)
class Chunk:
    """The frames of one chunk in the joined video, its conditioning frames included, and the prompt that it was made from.

    start, stop: frames of the video, stop excluded.
    """

    start: int
    stop: int
    prompt: str


def rollout_frames(config: Config) -> int:
    """Frames of a generated video: all chunks, the conditioning frames between two chunks once."""
    frames = config.data.num_frames
    return frames + (config.generation.chunks - 1) * (frames - OVERLAP)


def chunks_of(config: Config, prompt: str, name: str) -> tuple[Chunk, ...]:
    """The chunks of a video. Empty for a video of one chunk.

    Args:
        prompt: of the test pair.
        name: of the test pair, for the error.

    Raises:
        UserError: as `chunk_prompts`.
    """
    prompts, frames = chunk_prompts(config, prompt, name), config.data.num_frames
    if len(prompts) == 1:
        return ()
    step = frames - OVERLAP
    return tuple(Chunk(k * step, k * step + frames, text) for k, text in enumerate(prompts))


def chunk_prompts(config: Config, prompt: str, name: str) -> list[str]:
    """The prompt of each chunk: the whole prompt, or with generation.chunk_prompts=lines one line for each.

    A prompt that begins with data.prompt_prefix has it before each of its lines.

    Raises:
        UserError: the number of lines is not that of the chunks.
    """
    count, prefix = config.generation.chunks, config.data.prompt_prefix
    if config.generation.chunk_prompts == "same":
        return [prompt] * count
    body = prompt.removeprefix(prefix)
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    if len(lines) != count:
        raise UserError(
            f"generation.chunk_prompts=lines: the prompt of {name} has {len(lines)} lines, generation.chunks={count}. "
            "Write one line per chunk, or set generation.chunk_prompts=same."
        )
    if body == prompt:
        return lines
    return [prefix + line for line in lines]
