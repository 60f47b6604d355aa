"""How many videos are held out of training, where test pairs on disk do not decide it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cosmos_exp.config.schema import Data
from cosmos_exp.errors import UserError

TENTH = 10


@dataclass(frozen=True)
class HoldOut:
    """Numbers of videos.

    note: what was decided without a setting; empty: nothing.
    """

    train: int
    validation: int
    test: int
    selection: int
    note: str = ""


def hold_out(data: Data, videos: int, has_pairs: bool, folder: Path | str) -> HoldOut:
    """Divide a number of videos.

    data.validation_videos and data.test_videos decide; where one is null, a tenth of the videos is held out, at least one;
    for the test none if there are test pairs on disk. Of two videos one is for the test and none for validation.

    Args:
        has_pairs: test and selection prompts come from a folder of test pairs.
        folder: of the videos, for messages.

    Raises:
        UserError: nothing is left to train on.
    """
    tenth, selection = max(1, videos // TENTH), 0 if has_pairs else data.selection_pairs
    test = data.test_videos if data.test_videos is not None else 0 if has_pairs else tenth
    validation = data.validation_videos
    if validation is None:
        validation = tenth if videos - test - selection > 1 else 0
    held = validation + test + selection
    if held >= videos:
        raise UserError(
            f"{folder}: {videos} good videos, {held} of them held out; nothing is left to train on. Add videos, or lower "
            "data.validation_videos, data.test_videos or data.selection_pairs."
        )
    chosen = [] if data.validation_videos is not None else [f"{validation} for validation"]
    chosen += [f"{test} for the test"] if data.test_videos is None and not has_pairs else []
    note = (
        f"held out of training: {', '.join(chosen)} (a tenth; data.validation_videos, data.test_videos)"
        if chosen
        else ""
    )
    return HoldOut(videos - held, validation, test, selection, note)
