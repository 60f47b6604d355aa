"""From a request to a data set: plan, make and score, select, write, report. Every step continues where a killed one was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.rollout import rollout_frames
from cosmos_exp.config.schema import Config
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.experiment.preflight import check_making
from cosmos_exp.experiment.record import interruptible
from cosmos_exp.files import JsonObject, inside_by_name
from cosmos_exp.generation.videos import num_conditioning_frames
from cosmos_exp.report.formatting import number
from cosmos_exp.tracking.progress import progress
from cosmos_exp.trajectories.actions import InverseDynamics, load_actions
from cosmos_exp.trajectories.effect import Effect, in_words, selection_effects
from cosmos_exp.trajectories.keep import Keep, parse_keep, unknown
from cosmos_exp.trajectories.making import Maker, Store, check_out, computed_measures, judged_measures, switch_of
from cosmos_exp.trajectories.plan import Candidate, Prompts, check_folder, parse_seeds, plan, read_prompts
from cosmos_exp.trajectories.selection import Rule, Selection, check_ranking
from cosmos_exp.trajectories.sources import SourceRun, read_sources
from cosmos_exp.world.kernels import choose_kernels
from cosmos_exp.world.model_folder import ensure_model


@dataclass(frozen=True)
class Request:
    """What the command line asks for; see `cosmos-exp trajectories --help`."""

    runs: tuple[str, ...]
    out: Path
    prompts: str | None = None
    keep: str | None = None
    best: int | None = None
    by: str | None = None
    seeds: str | None = None
    target: int | None = None
    with_real: bool = False
    actions: str | None = None
    settings: tuple[str, ...] = ()

    def recorded(self) -> JsonObject:
        """The request without paths of this machine."""
        content = asdict(self) | {"runs": [Path(r).name for r in self.runs]}
        content["settings"] = [s for s in self.settings if "/" not in s]  # no path or address of this machine
        return {
            k: v for k, v in content.items() if k not in ("out", "prompts", "actions") and v not in (None, [], False)
        }


@dataclass(frozen=True)
class Job:
    """A checked request: all that is known before the first video is made."""

    request: Request
    config: Config
    sources: list[SourceRun]
    prompts: Prompts
    candidates: list[Candidate]
    rule: Rule
    idm: InverseDynamics | None
    fingerprints: dict[str, str]


@dataclass(frozen=True)
class Made:
    """What was made and kept, and what the selection did."""

    job: Job
    selection: Selection
    effects: list[Effect]
    words: list[str]


def prepare_job(request: Request) -> Job:
    """Check a request. Nothing is written into the data set's folder.

    Raises:
        UserError: what is wrong with it.
    """
    check_out(request.out)
    check_folder(request.prompts)
    config, sources = read_sources(request.runs, request.settings)
    keep = _keep(request, config)
    seeds = parse_seeds(request.seeds) if request.seeds is not None else list(config.generation.seeds)
    check_ranking(request.best, request.by, len(seeds) * len(sources))
    if request.target is not None and request.target < 1:
        raise UserError(f"--target {request.target}: must be at least 1. Leave it out to make all videos.")
    idm = load_actions(request.actions, torch.device("cpu")) if request.actions else None
    if idm:
        idm.check(rollout_frames(config), config.generation.fps)
    check_making(config)
    prompts = read_prompts(config, request.prompts, sources, request.with_real)
    fingerprints = ensure_model(config.model, cache_root(config)).fingerprints()
    candidates = plan(config, sources, prompts.starts, seeds, fingerprints)
    for candidate in candidates:
        inside_by_name(request.out, candidate.file)  # a name that no disk takes
    rule = Rule(keep, request.best, request.by, request.target)
    return Job(request, config, sources, prompts, candidates, rule, idm, fingerprints)


def _keep(request: Request, config: Config) -> Keep | None:
    """The parsed condition, after a check that the videos get the measures of --keep and --by."""
    measures = [*computed_measures(config), *judged_measures(config)]
    named = parse_keep(request.keep, lambda name: _known(name, measures)) if request.keep is not None else None
    if request.by:
        problem = _known(request.by, measures)
        if problem:
            raise UserError(f"--by {request.by}: {problem}")
    return named


def _known(name: str, measures: Sequence[str]) -> str | None:
    """What is wrong with the name of a measure; None: nothing."""
    if name in measures:
        return None
    switch = switch_of(name)
    return f"is not measured in this run. Turn it on with --set {switch}." if switch else unknown(name, measures)


def make_and_select(job: Job, store: Store, show: bool = True) -> Made:
    """Make and score videos in order until the target is reached, and say what the selection did.

    Raises:
        RunError: no video is kept, or one cannot be made or scored. What was made before stays.
    """
    config = job.config
    choose_kernels(config.hardware.attention, config.approximate.tf32, config.training.deterministic)
    maker = Maker(config, store, job.prompts, {s.name: s.adapter for s in job.sources})
    selection, target = Selection(job.rule), job.rule.target
    stage, total = ("making", len(job.candidates)) if target is None else ("keeping", target)
    with interruptible(), progress(stage, total, "video", show=show) as bar:
        for batch in job.rule.batches(job.candidates):
            before = len(selection.kept)
            advance = partial(bar.update, f"{before} kept") if target is None else lambda: None
            selection.add(maker.make(batch, advance))
            for _ in range(len(selection.kept) - before if target else 0):
                bar.update(f"{len(selection.outcomes)} made")
            if selection.is_complete:
                break
    if not selection.kept:
        earlier = (store.out / "meta" / "info.json").is_file()
        stays = f" The data set that an earlier request wrote is still in {store.out}." if earlier else ""
        raise RunError(_nothing_kept(selection) + stays)
    made = [o.scored for o in selection.outcomes]
    given = num_conditioning_frames(config.generation.mode)
    effects = selection_effects(made, selection.kept, given, tiling_of(config.data), show)
    chosen_by = [*(job.rule.keep.measures if job.rule.keep else ()), *([job.rule.by] if job.rule.by else [])]
    return Made(job, selection, effects, in_words(effects, len(made), len(selection.kept), chosen_by))


def _nothing_kept(selection: Selection) -> str:
    """Why, and the range of each measure that was asked for."""
    reasons = "; ".join(f"{reason} ({count})" for reason, count in selection.dropped().items())
    ranges = []
    for name in selection.rule.keep.measures if selection.rule.keep else ():
        values = [v for o in selection.outcomes if (v := o.scored.scores.get(name)) is not None]
        if values:
            ranges.append(f" {name} is {number(min(values))} to {number(max(values))}.")
    return (
        f"none of {len(selection.outcomes)} videos is kept: {reasons}.{''.join(ranges)} No data set is written; the videos "
        "stay. Loosen --keep, or give more --seeds or --prompts, then run the command again."
    )
