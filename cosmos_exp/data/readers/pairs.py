"""Test pairs on disk: NAME.png (or .jpg) with the prompt in NAME.txt, and NAME.mp4 where the continuation was recorded."""

from __future__ import annotations

from pathlib import Path

from cosmos_exp.data.readers.records import IMAGE_SUFFIXES, VIDEO_SUFFIXES, TestPair, read_caption
from cosmos_exp.errors import UserError


def read_test_pairs(folder: Path, problems: list[str]) -> list[TestPair]:
    """The test pairs of a folder, sorted by name. What is wrong is appended to `problems`.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"data.test_path={folder}: no such folder. Give one that exists.")
    pairs = []
    images = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES]
    for image in images:
        caption = image.with_suffix(".txt")
        if not caption.exists():
            problems.append(f"{image}: has no prompt; expected {caption}")
            continue
        text = read_caption(caption, problems)
        if text is not None:
            recording = next((p for x in VIDEO_SUFFIXES if (p := image.with_suffix(x)).is_file()), None)
            pairs.append(TestPair(image.stem, text, image, recording))
    if not images:
        problems.append(f"{folder}: has no test pairs (NAME.png with NAME.txt)")
    return pairs


def unpaired_note(folder: Path) -> str | None:
    """A note on the prompts of a folder that have no picture, and so make no video; None: there is none."""
    files = list(folder.iterdir())
    pictured = {p.stem for p in files if p.suffix.lower() in IMAGE_SUFFIXES}
    alone = sorted(p.name for p in files if p.suffix == ".txt" and p.stem not in pictured)
    if not alone:
        return None
    return (
        f"{folder}: {len(alone)} NAME.txt without NAME.png, not used: {', '.join(alone[:4])}{' …' * (len(alone) > 4)}"
    )
