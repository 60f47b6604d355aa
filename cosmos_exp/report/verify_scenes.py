"""The check of the scenes: which prompts share a first frame decides how many observations a sweep has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from cosmos_exp.files import json_sha256
from cosmos_exp.report.checks import Check
from cosmos_exp.report.frozen_claims import CLAIMS_FILE, FrozenClaims
from cosmos_exp.report.variants import Run

Runs = Mapping[str, Run]  # by the path inside the reported folder


def check_scenes(runs: Runs, record: FrozenClaims | None = None) -> Check:
    """The scenes of every run have their hash, agree between runs, with claims.json, and with the held first frames."""
    findings, unhashed = [], []
    first: dict[str, tuple[str, str]] = {}  # scene of a prompt, and the run that says so first
    for label, run in runs.items():
        where, digest = f"{label}/manifest.json", run.manifest.get("data", {}).get("scenes_sha256")
        if digest and digest != json_sha256(run.scenes):
            findings.append(f"{where}: data.scenes was changed by hand (its hash does not fit)")
        elif run.scenes and not digest:
            unhashed.append(label)
        for prompt, scene in run.scenes.items():
            known, other = first.setdefault(prompt, (scene, label))
            if known != scene:
                findings.append(f"{where}: {prompt}: another scene than in {other}/manifest.json")
                break
        findings += [f"{where}: {words}" for words in [*_by_frames(run), *_by_claims(run, record)]]
    notes = [f"the scenes of {len(unhashed)} runs, e.g. {unhashed[0]}: not hashed (older runs)"] if unhashed else []
    count = len({scene for scene, _ in first.values()})
    return Check("scenes", f"{len(first)} prompts in {count} scenes", findings, notes)


def _by_frames(run: Run) -> Iterator[str]:
    """Prompts that have different scenes although their held first frame is the same video."""
    hashes = run.manifest.get("evaluated", {}).get("videos", {})
    by_video: dict[str, list[str]] = defaultdict(list)
    for prompt in run.scenes:
        if digest := hashes.get(f"references/frozen/{prompt}.mp4"):
            by_video[digest].append(prompt)
    for prompts in by_video.values():
        if len({run.scenes[p] for p in prompts}) > 1:
            yield f"data.scenes: {' and '.join(prompts[:2])} show the same first frame, but have different scenes"


def _by_claims(run: Run, record: FrozenClaims | None) -> Iterator[str]:
    """Prompts that had another scene when the claims were frozen."""
    frozen = (record.content.get("scenes") if record else None) or {}
    wrong = [p for p, scene in run.scenes.items() if frozen.get(p, scene) != scene]
    if wrong:
        yield f"data.scenes: {', '.join(wrong[:3])}: other scenes than those frozen in {CLAIMS_FILE}"
