"""A reader: docs/guides/add_reader.md. Run this file to test it."""

import json
import tempfile
from pathlib import Path

from cosmos_exp.config.registry import READERS
from cosmos_exp.config.schema import Data
from cosmos_exp.data.readers.records import Clip, Episodes, read_episodes
from cosmos_exp.errors import UserError


def read_episode_folders(data: Data, folder: Path) -> Episodes:
    """List episode_*/camera.mp4 with the instruction of task.json beside it."""
    episodes = sorted(folder.glob("episode_*"))
    if not episodes:
        raise UserError(f"{folder}: no episode_* folders, which data.reader=episode_folders requires.")
    found = Episodes()
    for episode in episodes:
        video, task = episode / "camera.mp4", episode / "task.json"
        if not video.is_file():
            found.problems.append(f"{video}: no such file; add the video or remove {episode.name}")
            continue
        try:
            prompt = json.loads(task.read_text(encoding="utf-8"))["instruction"].strip()
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            found.problems.append(f"{task}: no instruction ({type(error).__name__}); write it or remove {episode.name}")
            continue
        found.clips.append(Clip(episode.name, video, data.prompt_prefix + prompt))
    return found


READERS.add("episode_folders", read_episode_folders)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for number, text in ((1, '{"instruction": "Put the cup on the plate."}'), (2, "{}")):
            episode = Path(name) / f"episode_{number:04d}"
            episode.mkdir()
            (episode / "camera.mp4").touch()
            (episode / "task.json").write_text(text, encoding="utf-8")
        settings = Data(reader="episode_folders", prompt_prefix="The robot arm is performing a task. ")
        found = read_episodes(settings, Path(name))
    print([clip.prompt for clip in found.clips], found.problems)
    assert [clip.name for clip in found.clips] == ["episode_0001"]
    assert len(found.problems) == 1
    assert "episode_0002" in found.problems[0]
