"""What a result came from: versions, host, git state, time. It goes into a run's manifest."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from cosmos_exp.files import JsonObject

PACKAGES = (
    *("cosmos-exp", "torch", "torchvision", "diffusers", "transformers", "peft", "accelerate", "hydra-core", "wandb"),
    *("opencv-python-headless", "av", "numpy", "safetensors"),
)


def available_cores() -> int:
    """CPU cores that this process may use: those of its affinity mask (taskset, Slurm, containers), else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def opencv_fault() -> str | None:
    """What to do if OpenCV is here twice: both packages write the same files, and opencv-python needs libGL."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("opencv-python")
        return (
            "opencv-python is installed beside opencv-python-headless; without libGL `import cv2` fails. Run `pip uninstall "
            "-y opencv-python opencv-python-headless && pip install opencv-python-headless`."
        )
    return None


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def environment() -> JsonObject:
    """Versions, host and git state of this process."""
    versions, commit = {}, _git("rev-parse", "HEAD")
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpus": available_cores(),
        "packages": versions,
        "git": {"commit": commit, "dirty": bool(_git("status", "--porcelain")) if commit else None},
    }


@contextlib.contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while the block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _git(*words: str) -> str | None:
    """The output of a git command in this checkout; None if it fails or git is not installed."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
