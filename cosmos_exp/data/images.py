"""First frames on disk: what kind of picture a file holds, and which kinds are refused.

Taken as they are: 8-bit RGB and grey. Converted: 16 bits to 8, a palette to RGB, an EXIF orientation to upright pixels.
"""

from __future__ import annotations

from pathlib import Path

from cosmos_exp.errors import RunError

SMALLEST = 32  # pixels a side
_TOO_DEEP = ("F",)  # floating point: the range is unknown


def check_image(path: Path) -> None:
    """Refuse a picture that cannot be read as 8-bit RGB without a guess.

    Raises:
        RunError: it cannot be read, is damaged, CMYK, of floating-point values, transparent, animated, or smaller than
            SMALLEST pixels.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            mode, size, frames = image.mode, image.size, getattr(image, "n_frames", 1)
            lowest_alpha = _lowest_alpha(image)
    except Exception as error:  # Pillow raises many kinds, OSError and SyntaxError among them
        raise RunError(f"{path}: cannot be read as an image ({error}); replace it by a PNG or JPEG") from error
    if min(size) < SMALLEST:
        raise RunError(
            f"{path}: {size[0]}x{size[1]} pixels are too small for a first frame; use at least {SMALLEST}x{SMALLEST}"
        )
    if mode == "CMYK":
        raise RunError(f"{path}: CMYK colours depend on a printer's profile; save it as RGB")
    if mode in _TOO_DEEP:
        raise RunError(f"{path}: floating-point pixels have no known range; save it with 8 bits per channel")
    if frames > 1:
        raise RunError(f"{path}: has {frames} pictures (animated); save the one to use")
    if lowest_alpha < 255:
        raise RunError(f"{path}: has transparent pixels, whose colour is undefined; flatten it onto a background")


def _lowest_alpha(image: object) -> int:
    """Lowest value of the alpha channel, 0 to 255; 255: none is transparent."""
    from PIL import Image

    assert isinstance(image, Image.Image)
    if not (image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info):
        return 255
    lowest = image.convert("RGBA").getchannel("A").getextrema()[0]
    assert isinstance(lowest, (int, float))
    return int(lowest)
