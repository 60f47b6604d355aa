"""Pack a sweep's records without its videos, adapters and checkpoints, so that anybody can recompute its report.

    python benchmarks/publish_records.py outputs/sweeps/ablation docs/ablation.tar.xz
    python benchmarks/publish_records.py docs/ablation.tar.xz docs/ablation.tar.xz     # the same records, the report written again
    cosmos-exp report docs/ablation.tar.xz --verify --without-videos

Kept: sweep.json, claims.json, and of each run (tuning runs too) configuration, manifest, status, metrics, scores and logs, and the report.
Names of hosts and users, paths and addresses are hidden in the records; files whose hash was recorded are copied as they are, and
those of them that hold private text are listed.
"""

from __future__ import annotations

import argparse
import json
import tarfile
import tempfile
from pathlib import Path

import yaml

from cosmos_exp.config.record import plain_config
from cosmos_exp.files import JsonObject, read_json, write_json, write_text
from cosmos_exp.publish.neutral import neutral, neutral_config, neutral_text, private_names, recorded_paths
from cosmos_exp.publish.source import comes_from_hub
from cosmos_exp.report.runs import Run
from cosmos_exp.report.tables import write_report
from cosmos_exp.run_folder import RunFolder

RECORDS = ("config.yaml", "manifest.json", "status.json", "metrics.json")
HASHED = ("scores.jsonl", "train_log.jsonl", "validation_log.jsonl")
HASHED += ("references/real/scores.jsonl", "references/frozen/scores.jsonl")
OF_SWEEP = ("sweep.json", "claims.json")


def publish(sweep: Path, out: Path) -> tuple[list[Path], list[Path]]:
    """Copy the records of every run below `sweep`. Returns the files, and those of them that hold private text."""
    folders = sorted(p.parent for p in sweep.rglob("status.json") if (p.parent / "config.yaml").is_file())
    runs = [Run(RunFolder(folder)) for folder in folders]
    paths = [
        path
        for run in runs
        for path in recorded_paths(run.config, comes_from_hub(run)).values()
        if path != _sibling(run)
    ]
    names = private_names([part for run in runs for part in (run.manifest, run.config)], paths)
    written, private = [], []
    for run in runs:
        for name in RECORDS:
            if (file := run.folder.path / name).is_file():
                written.append(out / file.relative_to(sweep.absolute()))
                _write_record(run, file, written[-1], names)
    hashed = [f for run in runs for name in HASHED if (f := run.folder.path / name).is_file()]
    for file in [*hashed, *(f for name in OF_SWEEP if (f := sweep.absolute() / name).is_file())]:
        text = file.read_text(encoding="utf-8")
        written.append(out / file.relative_to(sweep.absolute()))
        write_text(written[-1], text)
        if any(neutral_text(line, names) != line for line in text.splitlines()):
            private.append(written[-1])
    return written, private


def _sibling(run: Run) -> str | None:
    """`../NAME`, the run of the same sweep whose adapter was truncated: no private path, and part of the configuration's hash."""
    source = (run.config.get("adapter") or {}).get("truncate_from")
    is_sibling = source and Path(source).parent == Path("..") and (run.folder.path / source / "status.json").is_file()
    return source if is_sibling else None


def _write_record(run: Run, file: Path, target: Path, names: tuple[str, ...]) -> None:
    """Write a record of a run without private text."""
    if file.name == "config.yaml":
        config = neutral_config(plain_config(file), comes_from_hub(run), names)
        if sibling := _sibling(run):
            config["adapter"]["truncate_from"] = sibling
        write_text(target, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        return
    content = read_json(file)
    assert isinstance(content, dict)
    record: JsonObject = neutral(content, names)
    write_json(target, json.loads(json.dumps(record)))


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """The member without date and owner, so that equal records are equal archives; None for what `cosmos-exp report` draws from them."""
    if Path(member.name).name.startswith(("page", "figures")):
        return None
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def main() -> None:
    """Pack and print how much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="folder of the sweep, or an archive that this program wrote")
    parser.add_argument("archive", type=Path, help="NAME.tar.xz")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, args.archive.name.removesuffix(".tar.xz"))
        if args.sweep.is_file():
            with tarfile.open(args.sweep) as old:
                old.extractall(place, filter="data")
        else:
            for file in publish(args.sweep, folder)[1]:
                print(f"holds private text, and is as it was because its hash is recorded: {file.relative_to(place)}")
        write_report(folder)
        with tarfile.open(args.archive, "w:xz", preset=9) as archive:
            archive.add(folder, folder.name, filter=_anonymous)
    print(f"{args.archive}: {args.archive.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
