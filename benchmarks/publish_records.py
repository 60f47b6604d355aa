"""Pack a sweep's records without its videos, adapters and checkpoints, so that anybody can recompute its report.

    python benchmarks/publish_records.py outputs/sweeps/ablation docs/ablation.tar.xz
    python benchmarks/publish_records.py docs/ablation.tar.xz docs/ablation.tar.xz     # the same records, the report written again
    cosmos-exp report docs/ablation.tar.xz --verify --without-videos

Kept: sweep.json, claims.json, and of each run (tuning runs too) configuration, manifest, status, metrics, scores and logs, and the report.
Names of hosts and users, paths and addresses are hidden in the records; files whose hash was recorded are copied as they are, and
those of them that hold private text are listed.
"""

from __future__ import annotations

import lzma
import shutil
import tarfile
import tempfile
from pathlib import Path

import yaml
from common import command_line

from cosmos_exp.files import read_json, write_json, write_text
from cosmos_exp.publish.neutral import neutral, neutral_config, private_names, recorded_paths
from cosmos_exp.publish.source import comes_from_hub
from cosmos_exp.report.runs import Run
from cosmos_exp.report.tables import write_report
from cosmos_exp.run_folder import RunFolder

RECORDS = ("manifest.json", "status.json", "metrics.json")
HASHED = ("sweep.json", "claims.json", "scores.jsonl", "train_log.jsonl", "validation_log.jsonl")
SIBLING = (
    "adapter.truncate_from"  # `../NAME`, a run of the same sweep: no private path, and part of the configuration's hash
)


def publish(sweep: Path, out: Path) -> list[Path]:
    """Copy the records of every run below `sweep`. Returns the copies that hold private text."""
    sweep, names, private = sweep.absolute(), set(), []
    for status in sorted(sweep.rglob("status.json")):
        folder = status.parent
        run, target = Run(RunFolder(folder)), out / folder.relative_to(sweep)
        hub = comes_from_hub(run)
        paths = recorded_paths(run.settings, hub)
        is_sibling = paths.get(SIBLING, "").startswith("../")
        if is_sibling:
            del paths[SIBLING]
        of_run = private_names(run.manifest, run.settings, paths.values())
        names.update(of_run)
        content = neutral_config(run.settings, hub, of_run)
        if is_sibling:
            content["adapter"]["truncate_from"] = run.settings.adapter.truncate_from
        write_text(target / "config.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        for name in RECORDS:
            if (folder / name).is_file():
                write_json(target / name, neutral(read_json(folder / name), of_run))
    for file in sorted(path for path in sweep.rglob("*") if path.name in HASHED):
        target = out / file.relative_to(sweep)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        lines = file.read_text(encoding="utf-8").splitlines()
        if neutral(lines, sorted(names)) != lines:
            private.append(target)
    return private


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """The member without date and owner, so that equal records are equal archives; None for what `cosmos-exp report` draws from them."""
    if Path(member.name).name.startswith(("page", "figures")):
        return None
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def main() -> None:
    """Pack and print how much."""
    parser = command_line(__doc__)
    parser.add_argument("sweep", type=Path, help="folder of the sweep, or an archive that this program wrote")
    parser.add_argument("archive", type=Path, help="NAME.tar.xz")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, args.archive.name.removesuffix(".tar.xz"))
        if args.sweep.is_file():
            with tarfile.open(args.sweep) as old:
                old.extractall(place, filter="data")
        else:
            for file in publish(args.sweep, folder):
                print(f"holds private text, and is as it was because its hash is recorded: {file.relative_to(place)}")
        write_report(folder)
        with tarfile.open(args.archive, "w:xz", preset=9 | lzma.PRESET_EXTREME) as archive:
            archive.add(folder, folder.name, filter=_anonymous)
    print(f"{args.archive}: {args.archive.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
