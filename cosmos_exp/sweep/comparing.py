"""What came out different between two runs of the same configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from cosmos_exp.config.hashing import differences
from cosmos_exp.files import TEMPORARY
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.run_folder.records import read_rows

OLD_DEFINITION = ("tse", "cse", "tse_moving", "cse_moving")  # they changed when the key sampson.repeats came
ScoreKey = tuple[str, str, int]  # measure, sample, generation seed


@dataclass(frozen=True)
class Comparison:
    """One kind of result of two runs: is it the same, and the difference in words."""

    what: str
    same: bool
    text: str


def compare(old: RunFolder, new: RunFolder) -> list[Comparison]:
    """Training losses, adapter, videos and scores of two runs."""
    found = [_losses(old, new)]
    if old.adapter_file.is_file() or new.adapter_file.is_file():
        found.append(Comparison("adapter", _bytes(old.adapter_file) == _bytes(new.adapter_file), "every byte"))
    names = sorted({p.name for f in (old, new) for p in f.videos.glob("*.mp4") if not p.name.startswith(TEMPORARY)})
    equal = [_bytes(old.videos / n) == _bytes(new.videos / n) for n in names]
    found.append(Comparison("videos", all(equal), f"{sum(equal)} of {len(names)} files byte for byte"))
    return found + _scores(old, new)


def why_bits_may_differ(old: RunFolder, new: RunFolder) -> list[str]:
    """Reasons, from two records, not to expect the same training to the bit; empty: it is expected.

    The number of processes is no reason.
    """
    first, second = (f.manifest for f in (old, new))
    parts = [m.get("exactness", []) for m in (first, second)]
    if not all(parts):
        return ["a record does not say under which conditions it was trained (made by an earlier version)"]
    if any(len(p) > 1 for p in parts):
        return ["a run was trained in parts under different conditions (manifest.json, exactness)"]
    reasons = differences(parts[0][0], parts[1][0])
    for what, of in {
        "data_fingerprint": lambda m: m.get("data_fingerprint"),
        "model fingerprints": lambda m: m.get("model", {}).get("fingerprints"),
        "config hash of the training": lambda m: m.get("stages", {}).get("train", {}).get("config_hash"),
    }.items():
        reasons += differences({what: of(first)}, {what: of(second)})
    return reasons


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _losses(old: RunFolder, new: RunFolder) -> Comparison:
    what = "training losses"
    first, second = ({r["step"]: r["loss"] for r in read_rows(f.train_log)} for f in (old, new))
    if set(first) != set(second):
        return Comparison(what, False, f"{len(first)} steps before, {len(second)} now")
    if not first:
        return Comparison(what, True, "none: no training")
    steps = sorted(first)
    gaps = [abs(first[s] - second[s]) for s in steps]
    begins = next((s for s, gap in zip(steps, gaps, strict=True) if gap), None)
    text = f"{len(steps)} steps" + (f", largest difference {max(gaps):.3g}, from step {begins} on" if begins else "")
    return Comparison(what, begins is None, text)


def _scores(old: RunFolder, new: RunFolder) -> list[Comparison]:
    first, second, found = _by_key(old), _by_key(new), []
    for measure in sorted({k[0] for k in (*first, *second)}):
        keys = [k for k in sorted({*first, *second}) if k[0] == measure]
        pairs = [(first.get(k), second.get(k)) for k in keys]
        in_one = sum((k in first) != (k in second) for k in keys) + sum(
            k in first and k in second and (first[k] is None) != (second[k] is None) for k in keys
        )
        gaps = [abs(a - b) for a, b in pairs if a is not None and b is not None]
        text = f"{len(keys)} videos" + (f", largest difference {max(gaps):.3g}" if gaps else "")
        text += f", {in_one} scored in only one of the runs" if in_one else ""
        if measure in OLD_DEFINITION and _is_old(old) != _is_old(new):
            text += "; one of the runs has an older definition of this measure"
        found.append(Comparison(measure, not in_one and not any(gaps), text))
    return found


def _is_old(run: RunFolder) -> bool:
    """Whether a run was measured before tse and cse became the cookbook's call."""
    settings = yaml.safe_load(run.config.read_text(encoding="utf-8")) if run.config.is_file() else {}
    return "repeats" not in (settings.get("sampson") or {})


def _by_key(folder: RunFolder) -> dict[ScoreKey, float | None]:
    return {(r["measure"], r["sample"], r["seed"]): r["value"] for r in read_rows(folder.scores)}
