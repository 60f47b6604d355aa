"""Shared by the benchmarks: their command line, interleaved timing, ratios with their spread, the machine's name, result files."""

from __future__ import annotations

import argparse
import datetime
import math
import platform
import re
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cosmos_exp.files import write_json, write_text
from cosmos_exp.provenance import available_cores

RESULTS = Path(__file__).parent / "results"


def command_line(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the program's docstring as it is."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def device_name(device: str = "cpu") -> str:
    """A GPU's name, or the CPU's and how many cores this process may use."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.*\S)", info.read_text()) if info.is_file() else None
    return f"{found[1] if found else platform.machine()}, {available_cores()} cores"


def machine_line(device: str = "cpu") -> str:
    """Device and versions, for under a table."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "peft"))
    return f"{device_name(device)}; Python {platform.python_version()}, {packages}"


def synchronize(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def interleaved(
    variants: dict[str, Callable[[], Any]], repeats: int, device: str = "cpu", warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each call, one of each variant in turn, so that a slow minute of the machine meets all alike."""
    for call in variants.values():
        for _ in range(warm_up):
            call()
    seconds = {name: [] for name in variants}
    for _ in range(repeats):
        for name, call in variants.items():
            synchronize(device)
            began = time.perf_counter()
            call()
            synchronize(device)
            seconds[name].append(time.perf_counter() - began)
    return seconds


def spread(values: list[float]) -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def ratios(slow: list[float], fast: list[float]) -> list[float]:
    """How many times faster, turn by turn."""
    return [a / b for a, b in zip(slow, fast, strict=True)]


def table(rows: list[dict[str, Any]], floats: str = "g") -> str:
    """Rows as a Markdown table; lists of repeats are shown as median (lowest to highest), missing values as -."""
    shown = pd.DataFrame(rows).map(lambda value: spread(value) if isinstance(value, list) else value)
    return shown.to_markdown(index=False, floatfmt=floats, missingval="-")


def plain(value: Any) -> Any:
    """Data as JSON holds it: undefined numbers (NaN, infinite) are null, numpy's numbers plain ones, other objects text."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(name: str, title: str, text: str, data: Any, out: Path | None = None) -> None:
    """Print, and write results/<name>_<date>.md and .json."""
    today = datetime.date.today().isoformat()
    folder = out or RESULTS
    page = f"# {title}, {today}\n\n{text}\n"
    print(page)
    write_text(folder / f"{name}_{today}.md", page)
    write_json(folder / f"{name}_{today}.json", plain(data))
