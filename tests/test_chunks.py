"""Videos of several chunks: the seams, the noise, scores by chunk, drift."""

import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import SMALL

from cosmos_exp.config.measures import MEASURES, Measure
from cosmos_exp.config.registry import MEASURE_FUNCTIONS
from cosmos_exp.config.rollout import OVERLAP, Chunk, chunk_prompts, chunks_of, rollout_frames
from cosmos_exp.data.pairs import recorded_length
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.video import read_video, write_video
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.generate import check_lengths
from cosmos_exp.experiment.plan import plan_rows
from cosmos_exp.files import read_json_lines, write_json
from cosmos_exp.generation.videos import Generator, VideoTask, start_noise
from cosmos_exp.metrics.interface import Measured, ScoredVideo
from cosmos_exp.metrics.judges.interface import Answer
from cosmos_exp.metrics.recording.measures import compare_with_recording, scene_drift
from cosmos_exp.metrics.score import judge_videos, measure_videos
from cosmos_exp.report.study import drift_frame
from cosmos_exp.report.tables import write_report
from cosmos_exp.report.verify import verify
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.scores import score_frame
from cosmos_exp.world.loading import to_unit_range

SPANS = [(0, 17), (12, 29), (24, 41)]


@pytest.fixture(scope="module")
def three(small_config):
    return small_config("generation.chunks=3", "adapter=none")


class TestArithmetic:
    """Frames, prompts and hashes."""

    def test_three_chunks_of_17_frames_share_five_between_two(self, three, small_config):
        assert [(c.start, c.stop) for c in chunks_of(three, "do it", "a")] == SPANS
        assert rollout_frames(three) == 41
        one = small_config()
        assert (rollout_frames(one), chunks_of(one, "do it", "a")) == (17, ())
        assert "41 frames, 5.1 s at 8 fps" in dict(plan_rows(three))["test videos"]

    def test_a_line_of_the_prompt_for_each_chunk(self, small_config):
        lines = small_config("generation.chunks=2", "generation.chunk_prompts=lines", "data.prompt_prefix='The arm: '")
        assert chunk_prompts(lines, "The arm: lift it\n\n drop it \n", "a") == ["The arm: lift it", "The arm: drop it"]
        with pytest.raises(UserError, match=r"prompt of a has 1 lines, generation\.chunks=2"):
            chunk_prompts(lines, "lift it", "a")

    def test_existing_videos_of_another_length_are_not_taken(self, three, tmp_path):
        path = tmp_path / "a__seed0.mp4"
        task = VideoTask("a", 0, "do it", path, None)
        check_lengths(three, [task])
        write_video(path, np.zeros((17, 32, 32, 3), np.uint8), 8)
        with pytest.raises(UserError, match=r"exists with 17 frames, and generation\.chunks=3 makes 41"):
            check_lengths(three, [task])


class FakePipe:
    """Answers with frames that follow from its noise, and keeps what it was given."""

    transformer = SimpleNamespace(dtype=torch.float32)

    def __init__(self):
        self.calls = []

    def __call__(self, **given):
        self.calls.append(given)
        seed = int(np.abs(given["latents"].numpy()).sum())
        frames = np.random.RandomState(seed % 2**32).randint(0, 256, (17, 96, 160, 3)) / 255
        return SimpleNamespace(frames=[frames])


def generator(config):
    made = Generator.__new__(Generator)
    made.config, made.pipe, made.device = config, FakePipe(), torch.device("cpu")
    made.shape, made.guided = (16, 5, 12, 20), SimpleNamespace()
    made.prompt = lambda text: torch.full((1, 1), float(len(text or "")))
    return made


class TestSeams:
    """What a chunk is conditioned on, and what of it is in the video."""

    def test_the_conditioning_frames_are_the_last_ones_of_the_chunk_before(self, three):
        maker, image = generator(three), np.zeros((1, 96, 160, 3), np.uint8)
        video = maker.frames(VideoTask("a", 7, "all", None, lambda: image, ("a", "bb", "ccc")), None)
        first, *later = maker.pipe.calls
        assert (first["image"] == image[0]).all()
        assert video.shape == (41, 96, 160, 3)
        alone = [read_chunk(call) for call in maker.pipe.calls]
        assert (video[:17] == alone[0]).all()
        for number, call in enumerate(maker.pipe.calls):
            assert torch.equal(call["latents"], start_noise(7, maker.shape, number))
            assert float(call["prompt_embeds"]) == number + 1  # the length of its prompt
        for number, call in enumerate(later, 1):
            given = alone[number - 1][-OVERLAP:]  # as they were generated
            assert torch.equal(call["video"][0], to_unit_range(given))
            assert call["num_latent_conditional_frames"] == 2
            start, stop = SPANS[number]
            assert (video[start : start + OVERLAP] == given).all()  # once, and not what the next chunk made of them
            assert (video[start + OVERLAP : stop] == alone[number][OVERLAP:]).all()

    def test_no_two_chunks_of_any_seed_share_their_noise(self):
        drawn = {start_noise(seed, (1, 2, 2), chunk).numpy().tobytes() for seed in range(4) for chunk in range(4)}
        assert len(drawn) == 16


def read_chunk(call):
    seed = int(np.abs(call["latents"].numpy()).sum())
    return np.random.RandomState(seed % 2**32).randint(0, 256, (17, 96, 160, 3)).astype(np.uint8)


def scored(tmp_path, frames, recorded=None, **more):
    levels = np.arange(frames, dtype=np.uint8) * 5
    video = np.broadcast_to(levels[:, None, None, None], (frames, 32, 48, 3))
    write_video(tmp_path / "a__seed0.mp4", video, 8, crf=0)
    recording = None
    if recorded:
        recording = tmp_path / "recorded.mp4"
        write_video(recording, video[:recorded], 8, crf=0)
    chunks = tuple(Chunk(start, stop, f"part {k}") for k, (start, stop) in enumerate(SPANS))
    return ScoredVideo("a", 0, "all", tmp_path / "a__seed0.mp4", recording, 1, chunks, **more)


class TestScores:
    """Scores of chunks, and what belongs to recordings that end early."""

    def test_a_recording_that_ends_early_is_compared_as_far_as_it_goes(self, tmp_path):
        video = scored(tmp_path, 41, recorded=20)
        value, reason = compare_with_recording(video).values["psnr"]
        assert value > 40
        assert reason == "compared over the first 20 of 41 frames, which were recorded"
        first, second, third = (compare_with_recording(p).values["psnr"] for p in video.parts())
        assert first[0] > 40
        assert first[1] is None
        assert second == (None, "the recording has 8 of the 17 frames of this chunk")
        assert third == (None, "the recording has 0 of the 17 frames of this chunk")

    def test_each_line_has_its_chunks(self, tmp_path, three, monkeypatch):
        def brightness(videos, config, workers):
            for v in videos:
                frames = v.frames()[v.conditioning :]
                yield Measured({"psnr": (float(frames.mean()), None)}, {"prompt": v.prompt})

        monkeypatch.setattr(MEASURE_FUNCTIONS, "targets", {"brightness": brightness})
        monkeypatch.setitem(MEASURES, "psnr", Measure(function="brightness"))
        measure_videos([scored(tmp_path, 29)], three, tmp_path / "scores.jsonl", set(), show=False)
        (row,) = read_json_lines(tmp_path / "scores.jsonl")
        values = [c["value"] for c in row["detail"]["chunks"]]
        assert row["detail"]["prompt"] == "all"
        assert row["value"] == pytest.approx(5 * 14.5, abs=2)
        # frames 5 to 16 and 17 to 28: of the first chunk, too, the frames after the fifth
        assert values == [pytest.approx(5 * 10.5, abs=2), pytest.approx(5 * 22.5, abs=2), None]
        assert row["detail"]["chunks"][2]["reason"] == "the recording has 5 of the 17 frames of this chunk"

    def test_scene_drift_sees_what_does_not_move(self):
        rough = np.random.RandomState(0).uniform(-1, 1, (100, 170, 3)).astype(np.float32)
        table = np.clip(128 + 400 * cv2.GaussianBlur(rough, (0, 0), 3), 10, 240).astype(np.uint8)
        first = table[:96, :160]
        frames = np.stack([first] * 9)
        frames[2:, 20:60, 30:90] = 255  # a thing comes to a new place
        assert scene_drift(first, frames) < 0.5
        assert scene_drift(first, frames + np.uint8(9)) == pytest.approx(9, abs=0.5)
        assert scene_drift(first, np.stack([table[:96, 2:162]] * 9)) < 2  # the camera moved by two pixels

    @pytest.mark.parametrize("knows_chunks", [True, False])
    def test_a_judge_is_asked_about_each_chunk_that_it_can_score(self, knows_chunks, tmp_path, three):
        asked = []

        class Fake:
            name, batch = "fake", 2

            def identity(self):
                return None

            def ask(self, questions, temperature, seed):
                asked.extend((q.rubric.measure, q.instruction, q.span) for q in questions)
                return [Answer(5.0 if q.span is None else float(q.span[0] // 12 + 1), None, "x") for q in questions]

            if knows_chunks:

                def chunk_fault(self, number):
                    return "it is the second" if number == 2 else None

        judge_videos([scored(tmp_path, 41)], three, Fake(), tmp_path / "scores.jsonl", set(), None, show=False)
        rows = {r["measure"]: r for r in read_json_lines(tmp_path / "scores.jsonl")}
        assert {m: r["value"] for m, r in rows.items()} == {"physics": 5.0, "instruction": 5.0}
        chunks = rows["instruction"]["detail"]["chunks"]
        if knows_chunks:
            assert [c["value"] for c in chunks] == [1.0, None, 3.0]
            assert chunks[1]["reason"] == "it is the second"
            assert ("instruction", "part 2", (24, 41)) in asked
        else:
            assert len(asked) == 2
            assert all(c["value"] is None and "fake scores whole videos only" in c["reason"] for c in chunks)

    def test_a_rollout_takes_what_was_recorded_at_the_frame_rate_of_the_data(self, tmp_path, small_config):
        write_video(tmp_path / "a.mp4", np.zeros((70, 32, 32, 3), np.uint8), 16)
        data = small_config("data.fps=8").data
        pair = TestPair("a", "do it", tmp_path / "a.png", tmp_path / "a.mp4")
        assert recorded_length(pair, {}, data, 41) == 35  # every second of 70
        assert recorded_length(pair, {}, data, 29) == 29


def row(sample, values, whole=9.0, measure="tse"):
    chunks = [{"value": v, "reason": None if v is not None else "it is dark"} for v in values]
    return {"sample": sample, "seed": 0, "prompt": "", "video": f"{sample}.mp4", "measure": measure, "value": whole} | {
        "detail": {"reason": None, "chunks": chunks}
    }


def drift_of(rows, scenes=None):
    """The rows of the drift, from last minus first (0) to the last chunk."""
    return drift_frame(score_frame(rows, scenes).assign(arm="lora-r8")).set_index("chunk").sort_index()


class TestDrift:
    """The paired comparison of the last chunk with the first."""

    def test_last_minus_first_is_paired_within_each_video(self):
        drift = drift_of([row("a", [1.0, 1.5, 2.0]), row("b", [3.0, 3.5, 4.1]), row("c", [5.0, 5.5, 6.2])])
        assert drift["mean"].tolist() == pytest.approx([1.1, 3.0, 3.5, 4.1])
        # 1.0, 1.1 and 1.2: mean 1.1, t(2) 4.303 times 0.1 / sqrt(3)
        assert drift.loc[0, ["low", "high"]].tolist() == pytest.approx([1.1 - 0.2484, 1.1 + 0.2484], abs=1e-3)
        assert drift.loc[0, "verdict"] == "worse"


@pytest.fixture(scope="module")
def rollout(start, tmp_path_factory):
    """A run of the base with three chunks per video."""
    folder, log = RunFolder(tmp_path_factory.mktemp("rollout") / "base"), tmp_path_factory.mktemp("log") / "log.txt"
    words = ["adapter=none", "generation.chunks=3", "judge=rules", "hardware.num_threads=1"]
    assert start("run", *SMALL, *words, f"run_dir={folder.path}", log=log).wait(300) == 0, log.read_text()[-3000:]
    return folder, log.read_text()


class TestRun:
    """A whole run of the embedded world."""

    def test_files_and_lines(self, rollout):
        folder, said = rollout
        videos = sorted(folder.videos.iterdir())
        assert [len(read_video(v)) for v in videos] == [41, 41]
        sample = videos[0].name.split("__")[0]
        assert len(read_video(folder.reference_video("frozen", sample))) == 41
        assert len(read_video(folder.reference_video("real", sample))) == 17
        assert "2 of 2 recordings are shorter than the 41 frames of a video (17 frames)" in said
        rows = {r["measure"]: r for r in read_json_lines(folder.scores) if r["sample"] == sample}
        assert all(len(r["detail"]["chunks"]) == 3 for r in rows.values())
        assert all(c["value"] is not None for m in ("tse", "scene_drift") for c in rows[m]["detail"]["chunks"])
        assert [c["value"] is None for c in rows["psnr"]["detail"]["chunks"]] == [False, True, True]
        physics = rows["physics"]["detail"]["chunks"]
        assert physics[0]["value"] >= 1
        assert all(c["value"] is None and "begins in motion" in c["reason"] for c in physics[1:])
        metrics = folder.read(folder.metrics)
        assert [s["n"] for s in metrics["chunks"]["tse"]] == [1, 1, 1]

    def test_the_report_shows_the_drift_and_is_verified(self, rollout, tmp_path, capsys):
        folder, _ = rollout
        copy = tmp_path / "base"
        shutil.copytree(folder.path, copy)
        write_report(copy)
        text = (copy / "report.md").read_text()
        assert "## Drift over the chunks" in text
        assert "- 2 of 2 recordings are shorter than the 41 frames of a video (17 frames): real, and what" in text
        drift = json.loads((copy / "report.json").read_text())["drift"]
        assert {d["arm"] for d in drift} == {"real", "frozen", "base"}
        assert not any(verify(copy).values())
        metrics = copy / "metrics.json"
        content = json.loads(metrics.read_text())
        content["chunks"]["tse"][2]["mean"] += 1
        write_json(metrics, content)
        assert any("chunks.tse.2.mean" in f for f in verify(copy)["metrics"])
