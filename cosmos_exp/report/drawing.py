"""A figure of a report, as the page needs it. No matplotlib."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Drawing:
    """A figure on disk and for the page.

    Attributes:
        png: The file; a PDF is beside it.
        svg: The same as an SVG element for an HTML page, with text as text.
        caption: What it shows.
        width: In inches.
    """

    name: str
    png: Path
    svg: str
    caption: str
    width: float
