"""Parts of `cosmos-exp trajectories`: the condition, the LeRobot writer, actions."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from lerobot_sets import grey

from cosmos_exp.data.video import read_video, write_video
from cosmos_exp.errors import UserError
from cosmos_exp.files import read_json
from cosmos_exp.trajectories.actions import load_actions
from cosmos_exp.trajectories.lerobot_set import Feature, place_episodes, read_coded, write_set
from cosmos_exp.trajectories.selection import check_keep, reasons_to_drop

MEASURES = ["tse", "tse_robust", "physics", "instruction"]
CAMERA = "observation.images.main"


# --- the condition ---
@pytest.mark.parametrize(
    ("text", "scores", "reason"),
    [
        ("instruction>=4 and physics>=3", {"instruction": 4, "physics": 3}, None),
        ("instruction>=4 and physics>=3", {"instruction": 5, "physics": 2}, "not instruction>=4 and physics>=3"),
        ("instruction>=4 or physics>=3", {"instruction": 5, "physics": None}, "no score: physics"),
        ("not (tse>0.5 or `physics`<2) and -1<tse<tse_robust", {"tse": 0.5, "physics": 2, "tse_robust": 1}, None),
    ],
)
def test_a_condition_keeps_and_says_why_not(text, scores, reason):
    check_keep(text, MEASURES)
    reasons = reasons_to_drop(text, pd.DataFrame([scores, {}], columns=MEASURES, dtype=float))
    assert (None if pd.isna(reasons[0]) else reasons[0]) == reason
    assert reasons[1].startswith("no score: ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("instuction>=4 and tse<1", "'instuction' is not defined"),
        ("instruction", "neither true nor false"),
        ("physics>__import__('os').system('id')", "is not a supported function"),
        ("psnr>3", "names no measure"),
    ],
)
def test_what_is_no_condition_is_refused(text, problem):
    with pytest.raises(UserError, match=r"--keep.*The measures are tse, tse_robust, physics, instruction;") as refused:
        check_keep(text, MEASURES)
    assert problem in str(refused.value)


# --- the writer ---
@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Three episodes of 5, 9 and 4 frames with two action values, written twice, and their frames."""
    folder = tmp_path_factory.mktemp("set")
    random, lengths = np.random.RandomState(1), (5, 9, 4)
    files = [folder / f"{k}.mp4" for k in range(3)]
    for k, (file, length) in enumerate(zip(files, lengths, strict=True)):
        noise = random.randint(0, 30, (length, 32, 48, 3)).astype(np.uint8)
        write_video(file, grey(length, 40 * k, 32, 48) + noise, 8)
    episodes = pd.DataFrame({"video": files, "task": ["Pick it up.", "Put it down.", "Pick it up."]})
    episodes["seed"] = pd.array([None, 1, 2], "int64[pyarrow]")
    episodes["run"] = pd.array([None] * 3, "string[pyarrow]")
    actions = [random.randn(length, 2).astype(np.float32) for length in lengths]
    contents = []
    for _ in range(2):
        write_set(folder / "out", episodes, {"action": Feature(("x", "y"), actions)}, CAMERA, 8.0)
        contents.append({path: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()})
    assert contents[0] == contents[1]
    return folder / "out", [read_video(file) for file in files], actions


def test_tables_are_as_the_library_lays_them_out(written):
    folder, frames, actions = written
    info = read_json(folder / "meta" / "info.json")
    assert info["features"]["action"] == {"dtype": "float32", "shape": [2], "names": ["x", "y"]}
    tasks = pd.read_parquet(folder / "meta" / "tasks.parquet")  # as the library reads it
    assert tasks.loc["Put it down."].task_index == 1
    rows = pq.read_table(folder / "data" / "chunk-000" / "file-000.parquet").to_pandas()
    assert np.array_equal(np.stack(rows["action"]), np.concatenate(actions))
    assert list(rows["index"]) == list(range(18))
    assert list(rows["task_index"]) == [0] * 5 + [1] * 9 + [0] * 4
    assert rows["timestamp"].tolist() == [k / 8 for n in (5, 9, 4) for k in range(n)]
    episodes = pq.read_table(folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in episodes] == [(0, 5), (5, 14), (14, 18)]
    assert [(row["seed"], row["run"]) for row in episodes] == [(None, None), (1, None), (2, None)]
    stats = read_json(folder / "meta" / "stats.json")
    pixels = np.concatenate(frames).reshape(-1, 3) / 255
    for name, expected in (
        ("min", pixels.min(axis=0)),
        ("mean", pixels.mean(axis=0)),
        ("std", pixels.std(axis=0)),
        ("q01", np.quantile(pixels, 0.01, axis=0, method="inverted_cdf")),
    ):
        assert np.shape(stats[CAMERA][name]) == (3, 1, 1)
        assert np.allclose(np.squeeze(stats[CAMERA][name]), expected), name
    assert stats["action"]["count"] == stats[CAMERA]["count"] == [18]
    assert np.allclose(stats["action"]["q90"], np.quantile(np.concatenate(actions), 0.9, axis=0))


def test_a_shard_ends_at_its_size_and_where_the_coding_changes(tmp_path):
    for name, crf in (("a", 12), ("b", 12), ("c", 20)):
        write_video(tmp_path / f"{name}.mp4", grey(5, 50, 32, 48), 8, crf)
    coded = [read_coded(tmp_path / f"{name}.mp4") for name in "aabcc"]
    places = place_episodes(coded)
    assert list(places["video_file"]) == [0, 0, 0, 1, 1]
    assert list(places["first"]) == [0, 5, 10, 0, 5]
    assert list(place_episodes(coded[:3], limit=coded[0].size * 2)["video_file"]) == [0, 0, 1]


# --- actions ---
class Mean(torch.nn.Module):
    """The mean of each frame, and its number in the window."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.mean(dim=(2, 3, 4)), torch.arange(x.shape[1])[None].float()], dim=2)


class Inverse(torch.nn.Module):
    """Infinite on black frames."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1 / x.mean(dim=(2, 3, 4))[..., None]


DECLARED = {"frames": 4, "height": 16, "width": 24, "fps": 8, "state": ["mean", "place"]}


def save(module, path, declared):
    extra = {"idm.json": json.dumps(declared)} if declared is not None else {}
    torch.jit.save(torch.jit.script(module), str(path), _extra_files=extra)
    return f"idm:{path}"


def test_windows_are_consecutive_and_the_last_is_aligned_to_the_end(tmp_path):
    idm = load_actions(save(Mean(), tmp_path / "m.pt", DECLARED))
    idm.check(10, 8.0)
    frames = grey(10, 100, 32, 48)
    columns = idm.infer(frames)
    state, action = columns["observation.state"], columns["action"]
    assert state.dtype == np.float32
    assert np.allclose(state[:, 0], (100 + 2 * np.arange(10)) / 255)
    assert state[:, 1].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 2, 3]
    assert np.array_equal(action, state[[*range(1, 10), 9]])
    both = load_actions(save(Mean(), tmp_path / "both.pt", DECLARED | {"state": ["mean"], "actions": ["place"]}))
    assert list(both.declared.columns) == ["action", "observation.state"]
    assert np.array_equal(np.concatenate([both.infer(frames)[n] for n in ("observation.state", "action")], 1), state)


@pytest.mark.parametrize(
    ("module", "changed", "problem"),
    [
        (Mean, {"fps": 16}, "16 frames per second, the videos have 8"),
        (Mean, {"frames": 12}, "windows of 12 frames, the video has 10"),
        (Mean, {"state": ["mean"]}, r"declared are finite float32 \(1, 4, 1\)"),
        (Inverse, {"state": [], "actions": ["mean"]}, "finite"),
        (Mean, {"state": []}, "state or actions has to name the values"),
        (Mean, None, "declaration in its extra file idm.json"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_anything_is_made(module, changed, problem, tmp_path):
    declared = None if changed is None else DECLARED | changed
    with pytest.raises(UserError, match=problem):
        load_actions(save(module(), tmp_path / "m.pt", declared)).check(10, 8.0)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "m.pt").write_bytes(b"no model")
    for word in (f"idm:{tmp_path}/m.pt", "m.pt"):
        with pytest.raises(UserError, match="--actions"):
            load_actions(word)
