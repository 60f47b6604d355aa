"""Puts what gpu.sh measured into one page and one JSON file: results/<model>_<device>_<date>."""

from __future__ import annotations

import argparse
import datetime
import json
import re
import statistics
import sys
from pathlib import Path

from common import device_name, json_text


def reference_lines(work: Path, pages: dict) -> list[str]:
    """The reference's own step and how ours compares, if it was run."""
    file = work / "reference.json"
    if not file.is_file():
        return ["The reference's own script was not run (--reference PATH)."]
    found = json.loads(file.read_text())
    pages["reference"] = found
    peak = "" if found["peak_gib"] is None else f", peak {found['peak_gib']:.1f} GiB"
    lines = [
        "## The reference's own script",
        "",
        f"{found['adapter']}: median {found['median']:.2f} s a step of one sample ({min(found['seconds']):.2f} to {max(found['seconds']):.2f}){peak}.",
    ]
    for row in pages.get("train", []):
        if row["adapter"] == found["adapter"] and row["variant"].startswith("ours"):
            seconds = statistics.median(row["seconds"]) / row["batch"]
            lines.append(f"- {row['variant']}: {found['median'] / seconds:.2f} times as fast")
    return lines


def main() -> int:
    """Collect and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    device, today = device_name(args.device), datetime.date.today().isoformat()
    parts, pages = [f"# {args.model} on {device}, {today}"], {}
    for page in sorted(args.work.glob("*.md")):
        title, _, text = page.read_text().partition("\n")
        parts += [f"## {title.removeprefix('# ').rsplit(',', 1)[0]}", text.strip()]
        pages[page.stem.rsplit("_", 1)[0]] = json.loads(page.with_suffix(".json").read_text())
    parts.append("\n".join(reference_lines(args.work, pages)))
    name = f"{args.model}_{re.sub(r'[^A-Za-z0-9]+', '-', device).strip('-')}_{today}"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{name}.md").write_text("\n\n".join(parts) + "\n")
    (args.out / f"{name}.json").write_text(json_text(pages, 2))
    print(args.out / f"{name}.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
