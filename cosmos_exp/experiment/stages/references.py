"""The references of a run's videos: the recorded continuation (real), and the held first frame (frozen)."""

from __future__ import annotations

from pathlib import Path

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.rollout import chunks_of, rollout_frames
from cosmos_exp.data.pair_frames import frozen_frames, has_recording, pair_frames, recorded_frames
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.video import write_video
from cosmos_exp.experiment.stages.common import progress
from cosmos_exp.experiment.stages.prepare import Inputs
from cosmos_exp.experiment.stages.tasks import tested_pairs
from cosmos_exp.generation.videos import num_conditioning_frames
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.run_folder import REFERENCES


def write_references(context: RunContext, inputs: Inputs) -> None:
    """Write the reference videos that do not exist yet, with the H.264 settings of the generated videos.

    The processes divide them. `real` exists for test pairs with a recording, `frozen` for all.
    """
    measures = context.config.measures
    wanted = {"real": measures.references or measures.recording, "frozen": measures.references}
    pairs = tested_pairs(context.config, inputs.dataset.pairs)
    every = [(kind, p) for kind in REFERENCES if wanted[kind] for p in _with(kind, pairs)]
    # Divided before a look at the disk: a process that has begun must not change the others' parts.
    own = context.processes.shard(every)
    missing = [(kind, p) for kind, p in own if not _path(context, kind, p).is_file()]
    for kind, pair in progress(missing, "writing references", "video", context.processes):
        _write(context, inputs, kind, pair)
    context.processes.barrier()


def reference_videos(context: RunContext, inputs: Inputs, kind: str) -> list[ScoredVideo]:
    """The reference videos of a kind, to be scored. `real` has no recording to be compared with: it is the recording."""
    config = context.config
    conditioning = num_conditioning_frames(config.generation.mode)
    return [
        ScoredVideo(
            sample=pair.name,
            seed=0,
            prompt=pair.prompt,
            path=_path(context, kind, pair),
            recording=recording_of(context, pair) if kind != "real" else None,
            conditioning=conditioning,
            chunks=chunks_of(config, pair.prompt, pair.name),
        )
        for pair in _with(kind, tested_pairs(config, inputs.dataset.pairs))
    ]


def recording_of(context: RunContext, pair: TestPair) -> Path | None:
    """The file with which the videos of a test pair are compared; None without a recording."""
    return _path(context, "real", pair) if has_recording(pair) else None


def _with(kind: str, pairs: list[TestPair]) -> list[TestPair]:
    return [p for p in pairs if kind == "frozen" or has_recording(p)]


def _path(context: RunContext, kind: str, pair: TestPair) -> Path:
    return context.folder.reference_video(kind, pair.name)


def _write(context: RunContext, inputs: Inputs, kind: str, pair: TestPair) -> None:
    config, held_out = context.config, inputs.dataset.held_out
    if kind == "real":
        frames = recorded_frames(pair, held_out, config.data, rollout_frames(config))
    else:
        count = num_conditioning_frames(config.generation.mode)
        frames = frozen_frames(pair_frames(pair, held_out, config.data, count), rollout_frames(config))
    write_video(_path(context, kind, pair), frames, config.generation.fps, config.generation.crf)
