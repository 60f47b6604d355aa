"""Videos of several chunks: the seams, the noise, scores by chunk, drift."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import SMALL

from cosmos_exp.config.measures import MEASURES, Measure
from cosmos_exp.config.registry import MEASURE_FUNCTIONS
from cosmos_exp.config.rollout import OVERLAP, Chunk, chunk_prompts, chunks_of, rollout_frames
from cosmos_exp.data.video import read_video, write_video
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.generate import check_lengths
from cosmos_exp.experiment.plan import plan_rows
from cosmos_exp.files import read_json, read_json_lines, write_json
from cosmos_exp.generation.videos import Generator, VideoTask, start_noise
from cosmos_exp.metrics.interface import Measured, ScoredVideo
from cosmos_exp.metrics.recording.measures import compare_with_recording, scene_drift
from cosmos_exp.metrics.score import measure_videos
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
    """Answers with noise, and keeps what it was given and made."""

    transformer = SimpleNamespace(dtype=torch.float32)

    def __init__(self):
        self.calls = []

    def __call__(self, **given):
        made = np.random.RandomState(len(self.calls)).randint(0, 256, (17, 96, 160, 3))
        self.calls.append(given | {"made": made.astype(np.uint8)})
        return SimpleNamespace(frames=[made / 255])


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
        assert (maker.pipe.calls[0]["image"] == image[0]).all()
        assert video.shape == (41, 96, 160, 3)
        before = None
        for number, (call, (start, stop)) in enumerate(zip(maker.pipe.calls, SPANS, strict=True)):
            assert torch.equal(call["latents"], start_noise(7, maker.shape, number))
            assert float(call["prompt_embeds"]) == number + 1  # the length of its prompt
            made = call["made"]
            if before is not None:  # as they were generated; once, and not what this chunk made of them
                assert torch.equal(call["video"][0], to_unit_range(before))
                assert call["num_latent_conditional_frames"] == 2
                made[:OVERLAP] = before
            assert (video[start:stop] == made).all()
            before = made[-OVERLAP:]


def scored(tmp_path, frames, recorded=None):
    levels = np.arange(frames, dtype=np.uint8) * 5
    video = np.broadcast_to(levels[:, None, None, None], (frames, 32, 48, 3))
    write_video(tmp_path / "a__seed0.mp4", video, 8, crf=0)
    recording = None
    if recorded:
        recording = tmp_path / "recorded.mp4"
        write_video(recording, video[:recorded], 8, crf=0)
    chunks = tuple(Chunk(start, stop, f"part {k}") for k, (start, stop) in enumerate(SPANS))
    return ScoredVideo("a", 0, "all", tmp_path / "a__seed0.mp4", recording, 1, chunks)


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
                yield Measured({"psnr": (float(v.frames()[v.conditioning :].mean()), None)}, {})

        monkeypatch.setattr(MEASURE_FUNCTIONS, "targets", {"brightness": brightness})
        monkeypatch.setitem(MEASURES, "psnr", Measure(function="brightness"))
        measure_videos([scored(tmp_path, 29)], three, tmp_path / "scores.jsonl", set())
        (row,) = read_json_lines(tmp_path / "scores.jsonl")
        values = [row["value"], *(c["value"] for c in row["detail"]["chunks"])]
        # frames 1 to 28, 5 to 16 and 17 to 28: of the first chunk, too, the frames after the fifth
        assert values[:3] == pytest.approx([5 * 14.5, 5 * 10.5, 5 * 22.5], abs=2)
        assert values[3] is None
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


def test_last_minus_first_is_paired_within_each_video():
    rows = []
    for sample, values in (("a", [1.0, 1.5, 2.0]), ("b", [3.0, 3.5, 4.1]), ("c", [5.0, 5.5, 6.2])):
        detail = {"reason": None, "chunks": [{"value": value, "reason": None} for value in values]}
        row = {"sample": sample, "seed": 0, "prompt": "", "video": f"{sample}.mp4", "measure": "tse", "value": 9.0}
        rows.append(row | {"detail": detail})
    drift = drift_frame(score_frame(rows).assign(arm="lora-r8")).set_index("chunk").sort_index()  # 0: last minus first
    assert drift["mean"].tolist() == pytest.approx([1.1, 3.0, 3.5, 4.1])
    # 1.0, 1.1 and 1.2: mean 1.1, t(2) 4.303 times 0.1 / sqrt(3)
    assert drift.loc[0, ["low", "high"]].tolist() == pytest.approx([1.1 - 0.2484, 1.1 + 0.2484], abs=1e-3)
    assert drift.loc[0, "verdict"] == "worse"


def test_a_run_scores_its_chunks_and_its_report_shows_the_drift_and_is_verified(tmp_path, answered):
    """A run of the base with three chunks per video, and recordings of the first."""
    folder = RunFolder(tmp_path / "base")
    words = ["measures.references=true", "measures.recording=true"]
    words += ["adapter=none", "generation.chunks=3", "judge=rules", "generation.max_prompts=1"]
    shorter = "1 of 1 recordings are shorter than the 41 frames of a video (17 frames)"
    answered(["run", *SMALL, *words, f"run_dir={folder.path}"], 0, shorter)
    (video,) = folder.videos.iterdir()
    assert len(read_video(video)) == 41
    sample = video.name.split("__")[0]
    assert [len(read_video(folder.reference_video(r, sample))) for r in ("frozen", "real")] == [41, 17]
    rows = {r["measure"]: r["detail"]["chunks"] for r in read_json_lines(folder.scores) if r["sample"] == sample}
    scored_chunks = {measure: [c["value"] is not None for c in chunks] for measure, chunks in rows.items()}
    assert set(map(len, scored_chunks.values())) == {3}
    assert scored_chunks["scene_drift"] == [True, True, True]
    assert scored_chunks["psnr"] == scored_chunks["physics"] == [True, False, False]
    assert "begins in motion" in rows["physics"][1]["reason"]
    write_report(folder.path)
    text = (folder.path / "report.md").read_text()
    assert "## Drift over the chunks" in text
    assert f"- {shorter}: real, and what" in text
    drift = read_json(folder.path / "report.json")["drift"]
    assert {d["arm"] for d in drift} == {"real", "frozen", "base"}
    assert not any(verify(folder.path).values())
    content = folder.read(folder.metrics)
    content["chunks"]["scene_drift"][2]["mean"] += 1
    write_json(folder.metrics, content)
    assert any("chunks.scene_drift.2.mean" in f for f in verify(folder.path)["metrics"])
