"""Copy a sweep's records without its videos, adapters and checkpoints, so that anybody can recompute its report.

    python benchmarks/publish_records.py outputs/sweeps/ablation docs/ablation
    cosmos-exp report docs/ablation && cosmos-exp report docs/ablation --verify --without-videos

Kept: sweep.json, claims.json, and of each run (tuning runs too) configuration, manifest, status, metrics, scores and logs.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

KEPT = ("config.yaml", "manifest.json", "status.json", "metrics.json", "scores.jsonl", "train_log.jsonl")
KEPT += ("validation_log.jsonl", "references/real/scores.jsonl", "references/frozen/scores.jsonl")


def publish(sweep: Path, out: Path) -> list[Path]:
    """Copy the records of every run below `sweep`. Returns the files."""
    runs = sorted(p.parent for p in sweep.rglob("status.json") if (p.parent / "config.yaml").is_file())
    files = [f for name in ("sweep.json", "claims.json") if (f := sweep / name).is_file()]
    files += [f for run in runs for name in KEPT if (f := run / name).is_file()]
    written = []
    for file in files:
        target = out / file.relative_to(sweep)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        written.append(target)
    return written


def main() -> None:
    """Copy and say how much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    written = publish(args.sweep, args.out)
    print(f"{len(written)} files, {sum(f.stat().st_size for f in written) / 2**20:.1f} MiB: {args.out}")


if __name__ == "__main__":
    main()
