"""Freeze the claims of a sweep when its first run starts: claims.json in the sweep's folder, with a hash over its content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from cosmos_exp.config.arms import without_seed
from cosmos_exp.config.measures import MEASURES, measure_info
from cosmos_exp.config.registry import unknown_name
from cosmos_exp.config.schema import Config, Tune
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, json_sha256, write_json
from cosmos_exp.provenance import environment, now
from cosmos_exp.report.claims import CLAIMS_FILE, arm_hash, read_claims
from cosmos_exp.statistics.claims import Claim, parse_claim
from cosmos_exp.sweep.plan import SweepPlan
from cosmos_exp.sweep.runs import SweepRun

# The configuration of an arm, in which tuned keys may have any value, and its training seeds.
ArmPlan = tuple[Config, Sequence[int]]


@dataclass(frozen=True)
class FrozenPlan:
    """What is frozen.

    Attributes:
        prompts: Text of each test prompt by its name; None if the data decide them later (held-out clips, a download).
        scenes: The scene of each test prompt: prompts that share a first frame have the same one. None as `prompts`.
        measures: Direction and unit of the claimed measures.
        arms: Of each arm its training seeds, and `arm_hash` of its configuration.
        tuning: How each arm's own values are chosen (the keys of `sweep.tune`); empty for a sweep without tuning.
    """

    claims: list[str]
    margins: dict[str, float]
    measures: dict[str, JsonObject]
    prompts: dict[str, str] | None
    scenes: dict[str, str] | None
    generation_seeds: list[int]
    arms: dict[str, JsonObject]
    tuning: JsonObject


def frozen_plan(claims: Sequence[str], arms: Mapping[str, ArmPlan], tune: Tune | None = None) -> FrozenPlan:
    """The plan of a sweep, checked.

    Args:
        arms: Every arm by the name that it has in the report.
        tune: The tuning phase; None if there is none.

    Raises:
        UserError: A claim cannot be read, names no arm of the sweep or no measure, or is there twice.
    """
    parsed = check_claims(claims, list(arms))
    first = next(iter(arms.values()))[0]
    tuning: JsonObject = {}
    if tune is not None and tune.grid:
        tuning = tune.model_dump()
    prompts, by_scene = prompts_of(first) if parsed else (None, None)
    measures, frozen_arms = {}, {}
    for claim in parsed:
        info = measure_info(claim.measure)
        measures[claim.measure] = {"better": info.better, "unit": info.unit}
    for name, (config, seeds) in arms.items():
        digest = arm_hash(config, list(tuning.get("grid", {})))
        frozen_arms[name] = {"training_seeds": list(seeds), "config_hash": digest}
    return FrozenPlan(
        claims=[claim.text for claim in parsed],
        margins=dict(first.margins),
        measures=measures,
        prompts=prompts,
        scenes=by_scene,
        generation_seeds=list(first.generation.seeds),
        arms=frozen_arms,
        tuning=tuning,
    )


def check_claims(claims: Sequence[str], arms: Sequence[str]) -> list[Claim]:
    """The claims, read and checked against the arms of the sweep and the known measures.

    Raises:
        UserError: as `frozen_plan`.
    """
    parsed: dict[str, Claim] = {}
    for text in claims:
        claim, words = parse_claim(text), " ".join(text.split())
        _known(claim, claim.measure, list(MEASURES), "measure")
        for arm in (claim.a, claim.b):
            _known(claim, arm, arms, "arm of this sweep")
        if words in parsed:
            raise UserError(f"sweep.claims: {words!r} is there twice")
        parsed[words] = claim
    return list(parsed.values())


def _known(claim: Claim, name: str, names: Sequence[str], what: str) -> None:
    if name not in names:
        raise UserError(
            f"sweep.claims: {claim.text!r}: {name} is no {what}: {unknown_name(name, list(names))}\nFor a part of the sweep, give the claims about it "
            "(sweep.claims=[] for none)."
        )


def freeze_product(runs: Sequence[SweepRun]) -> str | None:
    """`freeze_claims` for a sweep that is a product of values. Call it whenever the sweep starts, before its runs.

    A dry run checks the claims and freezes nothing: no run starts.

    Raises:
        UserError: as `frozen_plan` and `freeze_claims`.
    """
    plan = frozen_plan(runs[0].config.sweep.claims, arms_of(runs))
    return None if runs[0].config.dry_run else freeze_claims(runs[0].folder.path.parent, plan)


def freeze_arms(plan: SweepPlan) -> str | None:
    """`freeze_claims` for a sweep by arms. Call it whenever the sweep starts, before its tuning runs.

    A dry run checks the claims and freezes nothing.

    Raises:
        UserError: as `frozen_plan` and `freeze_claims`.
    """
    arms = {}
    for arm in plan.arms:
        seeds = list(plan.sweep.seeds)
        if arm.is_base or not seeds:
            seeds = [arm.config.seed]
        arms[arm.name] = (arm.config, seeds)
    frozen = frozen_plan(plan.sweep.claims, arms, plan.sweep.tune)
    return None if plan.arms[0].config.dry_run else freeze_claims(plan.folder, frozen)


def arms_of(runs: Sequence[SweepRun]) -> dict[str, ArmPlan]:
    """The arms of a sweep that is a product of values: its runs by name without the training seed."""
    arms: dict[str, tuple[Config, list[int]]] = {}
    for run in runs:
        arms.setdefault(without_seed(run.name), (run.config, []))[1].append(run.config.seed)
    return dict(arms)


def prompts_of(config: Config) -> tuple[dict[str, str] | None, dict[str, str] | None]:
    """Text and scene of each test prompt by its name, from the folder of test pairs; nothing is downloaded.

    None and None if the data decide them later.

    Raises:
        UserError: a setting names data that do not exist.
    """
    from cosmos_exp.data.dataset import ensure_data, find_data, kept_prompts, split_pairs
    from cosmos_exp.data.inspection import SELECTION
    from cosmos_exp.data.pairs import read_test_pairs
    from cosmos_exp.data.scenes import scene_names

    if find_data(config).path is None and not config.data.builder:
        return None, None
    _, tests = ensure_data(config)
    if tests is None:
        return None, None
    pairs = read_test_pairs(tests, [])
    apart = read_test_pairs(tests / SELECTION, []) if (tests / SELECTION).is_dir() else []
    pairs, _ = split_pairs(pairs, apart, config, tests)
    pairs = [*pairs[: config.generation.max_prompts], *kept_prompts(config)]
    return {p.name: p.prompt for p in pairs}, scene_names(pairs)


def freeze_claims(sweep_folder: Path, plan: FrozenPlan) -> str | None:
    """Write claims.json with time, commit and hash, or record a change in its history. The same plan again changes nothing.

    A plan without claims is not recorded, unless it withdraws claims that were frozen before.

    Returns:
        A sentence for the terminal; None if nothing was written.

    Raises:
        UserError: claims.json was changed by hand.
    """
    content: JsonObject = asdict(plan)
    old, file = read_claims(sweep_folder), sweep_folder / CLAIMS_FILE
    if old is None and not plan.claims:
        return None
    scored, history, word = has_test_scores(sweep_folder), [], "frozen"
    if old is not None:
        if not old.intact:
            raise UserError(
                f"{file}: changed by hand (its hash does not fit). Restore it, and change sweep.claims in the sweep's YAML "
                "instead. If you remove the file, the claims count as made at the next start."
            )
        known = old.content["prompts"] is not None and plan.prompts is not None
        if not known and (scored or plan.prompts is None):  # data that came, or went, later: no change
            content |= {"prompts": old.content["prompts"], "scenes": old.content.get("scenes")}
        if old.content == content:
            return None
        history, word = old.versions, "changed"
    commit = environment()["git"]["commit"]
    record = {"frozen": now(), "commit": commit, "after_scores": scored, "content": content, "history": history}
    digest = record["sha256"] = json_sha256(record)
    write_json(file, record)
    late = ""
    if scored:
        late = ", after the first score; the report shows this with its date"
    return f"{len(plan.claims)} claims {word}: {file} (sha256 {digest[:12]}){late}"


def has_test_scores(sweep_folder: Path) -> bool:
    """Whether a run below the folder has a score of a test video, also one set aside under an earlier configuration.

    Scores of selection prompts do not count.
    """
    for file in sweep_folder.rglob("scores*.jsonl"):
        config = file.parent / "config.yaml"  # the scores of references have none beside them
        if file.stat().st_size and config.is_file():
            generation = (yaml.safe_load(config.read_text(encoding="utf-8")) or {}).get("generation") or {}
            if generation.get("split", "test") == "test":
                return True
    return False
