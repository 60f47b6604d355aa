"""Readers: from a folder on disk to clips and test pairs. They list every problem they see and invent nothing."""

from __future__ import annotations

from pathlib import Path

from cosmos_exp.data.readers.records import IMAGE_ENDS, Episodes, TestPair, _text
from cosmos_exp.errors import UserError


def read_test_pairs(folder: Path, problems: list[str]) -> list[TestPair]:
    """NAME.png (or .jpg) with NAME.txt, sorted by name; what is wrong is appended to `problems`.

    Raises:
        UserError: the folder is not there.
    """
    if not folder.is_dir():
        raise UserError(f"data.test_path={folder}: there is no such folder")
    found, pairs = Episodes(), []
    images = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in IMAGE_ENDS]
    for image in images:
        caption = image.with_suffix(".txt")
        if not caption.exists():
            found.problems.append(f"{image}: has no prompt; expected {caption}")
            continue
        text = _text(caption, found)
        if text is not None:
            pairs.append(TestPair(image.stem, text, image))
    if not images:
        found.problems.append(f"{folder}: holds no test pairs (NAME.png with NAME.txt)")
    problems += found.problems
    return pairs
