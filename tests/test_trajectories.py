"""Parts of `cosmos-exp trajectories`: the condition, the LeRobot writer, actions, and what a selection changed."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from lerobot_sets import grey

from cosmos_exp.config.composing import compose_config
from cosmos_exp.data.readers.lerobot import read_lerobot
from cosmos_exp.data.video import decode, probe, read_video, write_video
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.trajectories.actions import Declaration, InverseDynamics, load_actions
from cosmos_exp.trajectories.lerobot_set import (
    LEVELS,
    Episode,
    Layout,
    count_levels,
    feature_statistics,
    place_episodes,
    read_coded,
    write_set,
)
from cosmos_exp.trajectories.plan import parse_seeds, with_settings
from cosmos_exp.trajectories.selection import Rule, Selection, check_keep, check_rule, refusals, selection_effects

MEASURES = ["tse", "tse_robust", "physics", "instruction"]
CAMERA = "observation.images.main"


# --- the condition ---
@pytest.mark.parametrize(
    ("text", "scores", "reason"),
    [
        ("instruction>=4 and physics>=3", {"instruction": 4, "physics": 3}, None),
        ("instruction>=4 and physics>=3", {"instruction": 5, "physics": 2}, "not physics>=3"),
        ("instruction>=4 and physics>=3", {"instruction": 5}, "no score: physics"),
        ("instruction>=4 or physics>=3", {"instruction": 5, "physics": None}, "no score: physics"),
        ("not (tse>0.5 or physics<2)", {"tse": 0.5, "physics": 2}, None),
        ("not tse>0.5", {"tse": None}, "no score: tse"),
        ("-1 < tse <= 0.5", {"tse": 0.6}, "not -1 < tse <= 0.5"),
        ("tse<tse_robust and `physics`!=3", {"tse": 1, "tse_robust": 2, "physics": 3}, "not `physics`!=3"),
    ],
)
def test_a_condition_keeps_and_says_why_not(text, scores, reason):
    check_keep(text, MEASURES)
    found = refusals(text, pd.DataFrame([scores, {}], dtype=float))
    assert (None if pd.isna(found[0]) else found[0]) == reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("instuction>=4", "Did you mean instruction?"),
        ("instruction=4", "The measures are tse, tse_robust, physics, instruction."),
        ("instruction>=4 && tse<1", "The measures are"),
        ("instruction=>4", "invalid syntax"),
        ("instruction", "it is neither true nor false"),
        ("__import__('os').system('id')", "__import__: no measure of these videos"),
        ("physics>len('a')", "len: no measure of these videos"),
        ("3>2", "it names no measure"),
        ("", "it names no measure"),
        ("physics>(", "The measures are"),
        ("psnr>3", "--set measures.recording=true"),
    ],
)
def test_what_is_no_condition_is_refused(text, words):
    with pytest.raises(UserError, match="--keep") as refused:
        check_keep(text, MEASURES)
    assert words in str(refused.value)


def test_seeds():
    assert parse_seeds("0..2,7, 1") == [0, 1, 2, 7]
    for wrong in ("", "3..1", "-1", "a", "0..4294967296", "0..100000", "1.5"):
        with pytest.raises(UserError, match="--seeds"):
            parse_seeds(wrong)


def test_set_changes_how_videos_are_made_and_scored_and_nothing_of_the_run():
    base = compose_config(["judge=none"])
    changed = with_settings(base, ["judge=rules", "hardware.num_threads=1", "measures.motion=true"])
    assert (changed.judge.name, changed.hardware.num_threads, changed.measures.motion) == ("rules", 1, True)
    assert base.judge.name == "none"
    for wrong, words in (
        ("adapter.rank=4", "belongs to the run"),
        ("generation.seeds=[1]", "--seeds"),
        ("judge", "KEY=VALUE"),
        ("hardware.num_thread=1", "num_thread"),
        ("generation.num_steps=0", "num_steps"),
    ):
        with pytest.raises(UserError) as refused:
            with_settings(base, [wrong])
        assert words in str(refused.value)


# --- selection ---
def selected(rule, scores):
    """The selection of videos by prompt and seed."""
    selection = Selection(rule)
    candidates = pd.DataFrame(list(scores), columns=["sample", "seed"])
    for batch in rule.batches(candidates):
        rows = [scores[key] for key in zip(batch["sample"], batch["seed"], strict=True)]
        selection.add(batch, pd.DataFrame(rows, index=batch.index, dtype=float))
        if selection.is_complete:
            break
    return selection


def reasons(rule, scores):
    videos = selected(rule, scores).videos
    found = [None if pd.isna(reason) else reason for reason in videos["reason"]]
    return list(zip(videos["sample"], videos["seed"], found, strict=True))


def test_a_target_stops_at_the_video_that_reaches_it():
    found = reasons(Rule("physics>=3", target=2), {("a", s): {"physics": p} for s, p in enumerate([1, 3, 3, 5, 5])})
    assert found == [("a", 0, "not physics>=3"), ("a", 1, None), ("a", 2, None)]


def test_the_best_of_each_prompt_by_a_measure_of_which_less_is_better():
    values = {("a", 0): 0.3, ("b", 0): 0.5, ("a", 1): 0.1, ("b", 1): None, ("a", 2): 0.2, ("b", 2): 0.4}
    scores = {key: {"tse": value} for key, value in values.items()}
    found = {(p, s): r for p, s, r in reasons(Rule(best=1, by="tse"), scores)}
    kept = [(p, s) for p, s, r in reasons(Rule(best=2, by="tse", target=3), scores) if r is None]
    assert kept == [("a", 1), ("a", 2), ("b", 2)]  # "b" needs only one more
    assert [k for k, r in found.items() if r is None] == [("a", 1), ("b", 2)]
    assert found["b", 1] == "no score: tse"
    assert found["a", 0] == "not among the best 1 of its prompt by tse"
    for best, by, count in (
        (1, None, 3),
        (None, "tse", 3),
        (3, "tse", 3),
        (0, "tse", 3),
        (1, "tse", 1),
        (1, "static_share", 3),
    ):
        with pytest.raises(UserError, match=r"--best|--by"):
            check_rule(Rule(None, best, by), compose_config(["judge=none"]), count)


def test_a_selection_that_prefers_still_videos_and_one_prompt_is_said_so(tmp_path):
    from cosmos_exp.config.tiling import tiling_of

    random, rows, scores = np.random.RandomState(0), [], []
    for seed in range(12):
        for prompt, moves in (("a", 0), ("b", 40), ("c", 80)):
            frames = np.full((3, 24, 40, 3), 90, np.uint8)
            x = random.randint(0, 20)
            frames[1:, 4:20, x : x + 12] += moves
            video = tmp_path / f"{prompt}{seed}.mp4"
            rows.append({"scene": prompt, "sample": prompt, "seed": seed, "video": video})
            scores.append({"physics": float(moves), "tse": float(random.rand())})
            write_video(rows[-1]["video"], frames, 8)
    tiling, videos, scores = tiling_of(compose_config([]).data), pd.DataFrame(rows), pd.DataFrame(scores)
    one_prompt = videos.assign(reason=np.where(videos["scene"] == "a", None, "no"))
    moved = selection_effects(one_prompt, scores, 1, tiling, show=False)["moved"]
    assert moved["effective number of prompts"] == moved["effective number of scenes"] == moved["mean physics"] == -1
    assert moved["mean motion (grey levels)"] == moved["spread of motion (grey levels)"] == -1
    every_third = videos.assign(reason=np.where(videos["seed"] % 3 == 0, None, "no"))
    effects = selection_effects(every_third, scores, 1, tiling, show=False)
    assert effects["kept"]["effective number of prompts"] == pytest.approx(3)
    assert effects["moved"]["mean physics"] == effects["moved"]["mean motion (grey levels)"] == 0


# --- the writer ---
@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Three episodes of 5, 9 and 4 frames with two action values, and their frames."""
    folder = tmp_path_factory.mktemp("set")
    random = np.random.RandomState(1)
    episodes, frames, actions = [], [], []
    for k, length in enumerate((5, 9, 4)):
        pictures = grey(length, 40 * k, 32, 48) + random.randint(0, 30, (length, 32, 48, 3)).astype(np.uint8)
        write_video(folder / f"{k}.mp4", pictures, 8)
        actions.append(random.randn(length, 2).astype(np.float32))
        frames.append(read_video(folder / f"{k}.mp4"))
        notes = {"seed": k if k else None, "scores/tse": 0.5 * k if k else None, "run": None}
        episodes.append(Episode(folder / f"{k}.mp4", ["Pick it up.", "Put it down."][k % 2], actions[-1], notes))
    layout = Layout(CAMERA, 8.0, ("x", "y"), {"seed": int, "scores/tse": float, "run": str})
    write_set(folder / "out", episodes, layout, show=False)
    before = {p.relative_to(folder): p.read_bytes() for p in (folder / "out").rglob("*") if p.is_file()}
    write_set(folder / "out", episodes, layout, show=False)
    assert before == {p.relative_to(folder): p.read_bytes() for p in (folder / "out").rglob("*") if p.is_file()}
    return folder / "out", frames, actions


def test_our_reader_opens_the_set_with_equal_frames(written):
    folder, frames, _ = written
    data = compose_config(["data=lerobot", f"data.path={folder}"]).data
    found = read_lerobot(data, folder)
    assert (found.problems, found.notes) == ([], [])
    assert [c.prompt for c in found.clips] == ["Pick it up.", "Put it down.", "Pick it up."]
    info = probe(found.clips[0].path)
    for clip, own in zip(found.clips, frames, strict=True):
        first = info.frame_at(clip.seconds[0])
        assert clip.length == len(own)
        assert clip.seconds == (first / 8, (first + len(own)) / 8)
        assert np.array_equal(decode(clip.path, list(range(first, first + len(own))), info), own)


def test_tables_are_as_the_library_lays_them_out(written):
    folder, frames, actions = written
    info = json.loads((folder / "meta" / "info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_frames"], info["total_tasks"]) == ("v3.0", 8, 18, 2)
    assert info["features"]["action"] == {"dtype": "float32", "shape": [2], "names": ["x", "y"]}
    tasks = pd.read_parquet(folder / "meta" / "tasks.parquet")  # as the library reads it
    assert tasks.iloc[1].name == "Put it down."
    assert tasks.loc["Put it down."].task_index == 1
    rows = pq.read_table(folder / "data" / "chunk-000" / "file-000.parquet").to_pandas()
    assert np.array_equal(np.stack(rows["action"]), np.concatenate(actions))
    assert list(rows["index"]) == list(range(18))
    assert list(rows["task_index"]) == [0] * 5 + [1] * 9 + [0] * 4
    assert rows["timestamp"].tolist() == [k / 8 for n in (5, 9, 4) for k in range(n)]
    episodes = pq.read_table(folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()
    assert [(e["dataset_from_index"], e["dataset_to_index"]) for e in episodes] == [(0, 5), (5, 14), (14, 18)]
    assert [(e["seed"], e["scores/tse"], e["run"]) for e in episodes] == [
        (None, None, None),
        (1, 0.5, None),
        (2, 1.0, None),
    ]
    stats = json.loads((folder / "meta" / "stats.json").read_text())
    pixels = np.concatenate(frames) / 255
    mean, spread = pixels.mean(axis=(0, 1, 2)), pixels.std(axis=(0, 1, 2))
    assert np.allclose(np.squeeze(stats[CAMERA]["mean"]), mean)
    assert np.allclose(np.squeeze(stats[CAMERA]["std"]), spread)
    assert np.shape(stats[CAMERA]["q99"]) == (3, 1, 1)
    assert stats["action"]["count"] == stats[CAMERA]["count"] == [18]
    assert np.allclose(stats["action"]["q90"], np.quantile(np.concatenate(actions), 0.9, axis=0))


def test_statistics_of_pictures_are_those_of_their_pixels():
    frames = np.random.RandomState(0).randint(3, 250, (4, 8, 8, 3)).astype(np.uint8)
    found = feature_statistics(np.tile(LEVELS, (3, 1)), count_levels(frames))
    values = frames.reshape(-1, 3) / 255
    for name, expected in (
        ("min", values.min(axis=0)),
        ("max", values.max(axis=0)),
        ("mean", values.mean(axis=0)),
        ("std", values.std(axis=0)),
        ("q50", np.quantile(values, 0.5, axis=0, method="inverted_cdf")),
        ("q01", np.quantile(values, 0.01, axis=0, method="inverted_cdf")),
    ):
        assert np.allclose(found[name], expected), name


def test_a_shard_ends_at_its_size_and_where_the_coding_changes(tmp_path):
    for name, crf in (("a", 12), ("b", 12), ("c", 20)):
        write_video(tmp_path / f"{name}.mp4", grey(5, 50, 32, 48), 8, crf)
    coded = [read_coded(tmp_path / f"{name}.mp4") for name in "aabcc"]
    places = place_episodes(coded, [0] * 5)
    assert list(places["video_file"]) == [0, 0, 0, 1, 1]
    assert list(places["first"]) == [0, 5, 10, 0, 5]
    assert list(place_episodes(coded[:3], [0] * 3, limit=coded[0].size * 2)["video_file"]) == [0, 0, 1]
    assert list(place_episodes(coded[:3], [60 * 2**20] * 3)["data_file"]) == [0, 1, 2]


# --- actions ---
class Mean(torch.nn.Module):
    """The mean of each frame, and its number in the window."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.mean(dim=(2, 3, 4)), torch.arange(x.shape[1])[None].float()], dim=2)


class Wrong(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3, 4))[..., None] / 0


DECLARED = {"frames": 4, "height": 16, "width": 24, "fps": 8, "actions": ["mean", "place"]}


def save(module, path, declared):
    extra = {"idm.json": json.dumps(declared)} if declared is not None else {}
    torch.jit.save(torch.jit.script(module), str(path), _extra_files=extra)
    return f"idm:{path}"


def test_windows_are_consecutive_and_the_last_is_aligned_to_the_end(tmp_path):
    idm = load_actions(save(Mean(), tmp_path / "m.pt", DECLARED), torch.device("cpu"))
    idm.check(10, 8.0)
    frames = grey(10, 100, 32, 48)
    found = idm.actions(frames)
    assert found.dtype == np.float32
    assert np.allclose(found[:, 0], (100 + 2 * np.arange(10)) / 255)
    assert found[:, 1].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 2, 3]
    assert np.array_equal(idm.actions(frames[:4]), found[:4])


@pytest.mark.parametrize(
    ("module", "changed", "words"),
    [
        (Mean, {"fps": 16}, "16 frames per second, the videos have 8"),
        (Mean, {"frames": 12}, "windows of 12 frames, the videos have 10"),
        (Mean, {"actions": ["mean"]}, "declared is float32 (1, 4, 1)"),
        (Wrong, {"actions": ["mean"]}, "not finite"),
        (Mean, {"actions": ["a", "a"]}, "names one value twice"),
        (Mean, {"frames": 2.5}, "frames: Input should be a valid integer"),
        (
            Mean,
            {"fps": 0, "actions": []},
            "fps: Input should be greater than 0; actions: List should have at least 1 item",
        ),
        (Mean, None, "no declaration"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_anything_is_made(module, changed, words, tmp_path):
    declared = None if changed is None else DECLARED | changed
    with pytest.raises(UserError) as refused:
        load_actions(save(module(), tmp_path / "m.pt", declared), torch.device("cpu")).check(10, 8.0)
    assert words in str(refused.value)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "m.pt").write_bytes(b"no model")
    (tmp_path / "m.onnx").write_bytes(b"no model")
    for word in (f"idm:{tmp_path}/m.pt", f"idm:{tmp_path}/m.onnx", f"idm:{tmp_path}/absent.pt", "m.pt", "idm:"):
        with pytest.raises(UserError, match="--actions") as refused:
            load_actions(word, torch.device("cpu"))
        assert not re.search("[Pp]ytorch|Protobuf|ONNXRuntimeError|\n", str(refused.value))


def test_values_that_are_not_finite_on_a_video_are_an_error(tmp_path):
    def call(batch):
        return np.full((1, 4, 1), np.nan if batch.max() > 0 else 0, np.float32)

    idm = InverseDynamics(
        tmp_path / "m.pt", "", Declaration(frames=4, height=16, width=24, fps=8.0, actions=["x"]), call
    )
    idm.check(10, 8.0)
    with pytest.raises(RunError, match="not finite"):
        idm.actions(grey(10, 100, 32, 48))
