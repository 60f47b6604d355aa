"""`cosmos-exp rerun RUN_DIR`: the same run again from its record, and what came out different."""

from __future__ import annotations

from pathlib import Path

from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder


def compare(old: RunFolder, new: RunFolder) -> list[tuple[str, bool, str]]:
    """(what, whether equal, words) for training losses, adapter, videos and scores of two runs."""
    rows = [_losses(old, new)]
    if old.adapter_file.is_file() or new.adapter_file.is_file():
        rows.append(("adapter", _bytes(old.adapter_file) == _bytes(new.adapter_file), "every byte"))
    names = sorted({p.name for f in (old, new) for p in f.videos.glob("*.mp4")})
    equal = [_bytes(old.videos / n) == _bytes(new.videos / n) for n in names]
    rows.append(("videos", all(equal), f"{sum(equal)} of {len(names)} files byte for byte"))
    return rows + _scores(old, new)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _losses(old: RunFolder, new: RunFolder) -> tuple[str, bool, str]:
    first, second = ({r["step"]: r["loss"] for r in read_json_lines(f.train_log)} for f in (old, new))
    common = sorted(set(first) & set(second))
    if set(first) != set(second):
        return "training losses", False, f"{len(first)} steps before, {len(second)} now"
    if not common:
        return "training losses", True, "none: no training"
    gaps = [abs(first[s] - second[s]) for s in common]
    begins = next((s for s, gap in zip(common, gaps, strict=True) if gap), None)
    words = f"{len(common)} steps" + (f", largest difference {max(gaps):.3g}, from step {begins} on" if begins else "")
    return "training losses", begins is None, words


def _scores(old: RunFolder, new: RunFolder) -> list[tuple[str, bool, str]]:
    def keyed(folder: RunFolder) -> dict[tuple, float | None]:
        return {(r["measure"], r["sample"], r["seed"]): r["value"] for r in read_json_lines(folder.scores)}

    first, second, rows = keyed(old), keyed(new), []
    for measure in sorted({k[0] for k in (*first, *second)}):
        keys = [k for k in sorted({*first, *second}) if k[0] == measure]
        missing = sum((k in first) != (k in second) or (first.get(k) is None) != (second.get(k) is None) for k in keys)
        gaps = [abs(a - b) for k in keys if (a := first.get(k)) is not None and (b := second.get(k)) is not None]
        words = f"{len(keys)} videos, largest difference {max(gaps, default=0):.3g}"
        words += f", {missing} scored in only one" if missing else ""
        rows.append((measure, not missing and not any(gaps), words))
    return rows
