"""What the autoencoder does to rendered clips: PSNR, Sampson error and SIFT matches, before and after.

python -m benchmarks.pretraining.autoencoder     # 30 clips of each appearance, 3 minutes
"""

from __future__ import annotations

import numpy as np

from benchmarks.certificate.tabletop_clips import through_autoencoder
from cosmos_exp.config.schema import Sampson
from cosmos_exp.metrics.geometry.sampson import temporal_sampson
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import APPEARANCES

SEED, CLIPS = 92_000_000, 30  # scenes that nothing was trained or tuned on


def geometry(frames: np.ndarray) -> tuple[float, float]:
    """`tse_robust` in pixels, nan where it is undefined, and the mean number of matches of a frame pair."""
    result = temporal_sampson(frames, Sampson())
    value = result.values["tse_robust"]
    matches = np.mean([error.values.get("matches", 0) for error in result.errors])
    return np.nan if value is None else value, float(matches)


def main() -> None:
    """Print a line per appearance."""
    for appearance in APPEARANCES:
        quality, before, after = [], [], []
        for number in range(CLIPS):
            frames = Scene.sample(SEED + number, appearance).clip().frames
            decoded = through_autoencoder(frames)
            error = np.square(frames.astype(float) - decoded).mean()
            quality.append(10 * np.log10(255**2 / error))
            before.append(geometry(frames))
            after.append(geometry(decoded))
        (old, few), (new, many) = np.nanmean(before, axis=0), np.nanmean(after, axis=0)
        print(
            f"{appearance}: PSNR {np.mean(quality):.1f} dB; tse_robust {old:.3f} to {new:.3f} px; matches {few:.0f} to {many:.0f}"
        )


if __name__ == "__main__":
    main()
