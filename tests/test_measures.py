"""The measures against OpenCV, closed forms, rendered scenes and recordings; the judge's real classes at a tiny size."""

import cv2
import numpy as np
import pytest

from cosmos_exp.config import Judge, Sampson
from cosmos_exp.data.video import read_video
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.judge import load_rubric, parse_score, sample_frames
from cosmos_exp.metrics.sampson import pair_error, sampson_distance, temporal_sampson
from cosmos_exp.report.statistics import mean_interval, summarize
from cosmos_exp.tabletop.scene import Scene


def two_views(seed=0, count=200):
    """Exact correspondences of random points under two random pinhole cameras, and their fundamental matrix."""
    rng = np.random.RandomState(seed)
    points = np.c_[rng.uniform(-1, 1, (count, 2)), rng.uniform(3, 6, count)]
    k = np.array([[500, 0, 320], [0, 500, 240], [0, 0, 1.0]])
    rotation, _ = cv2.Rodrigues(rng.uniform(-0.15, 0.15, 3))
    t = np.array([0.4, 0.1, 0.05])
    a, b = points @ k.T, (points @ rotation.T + t) @ k.T
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    f = np.linalg.inv(k).T @ cross @ rotation @ np.linalg.inv(k)
    return a[:, :2] / a[:, 2:], b[:, :2] / b[:, 2:], f


def test_the_formula_is_opencvs():
    x, y, f = two_views()
    y = y + np.random.RandomState(1).normal(0, 1, y.shape)
    ours = sampson_distance(x, y, f)
    for i in range(0, 200, 17):
        theirs = cv2.sampsonDistance(np.append(x[i], 1.0)[:, None], np.append(y[i], 1.0)[:, None], f)
        assert ours[i] ** 2 == pytest.approx(theirs, rel=1e-6)


def test_exact_correspondences_have_no_error_and_noise_has_its_theoretical_size():
    x, y, f = two_views()
    assert sampson_distance(x, y, f).max() < 1e-6
    rng, sigma = np.random.RandomState(2), 0.5
    errors = np.concatenate([
        sampson_distance(x + rng.normal(0, sigma, x.shape), y + rng.normal(0, sigma, y.shape), f) for _ in range(50)
    ])  # fmt: skip
    # To first order e is |N(0, sigma^2)|: its mean is sigma sqrt(2 / pi).
    assert errors.mean() == pytest.approx(sigma * (2 / np.pi) ** 0.5, rel=0.03)
    assert pair_error(x, y, Sampson(), 0).all < 1e-3


def test_a_still_video_says_nothing_instead_of_zero():
    frame = Scene.sample(3, "robot", num_frames=1).clip().frames
    result = temporal_sampson(np.repeat(frame, 5, axis=0), Sampson())
    assert result.tse is None
    assert result.static_share == 1.0
    assert "stand still" in result.reason


@pytest.mark.parametrize("frames", [np.zeros((1, 96, 160, 3)), np.zeros((4, 96, 160, 3)), np.zeros((3, 16, 16, 3))])
def test_degenerate_input_gives_none_with_a_reason(frames):
    result = temporal_sampson(frames.astype(np.uint8), Sampson())
    assert result.tse is None
    assert result.reason


def textured_flight(count=6):
    """A plane of texture at two depths seen by a camera that moves sideways: true epipolar geometry, big enough for SIFT."""
    rng = np.random.RandomState(0)
    far = cv2.resize(rng.randint(0, 255, (90, 160, 3)).astype(np.uint8), (960, 540), interpolation=cv2.INTER_CUBIC)
    near = cv2.resize(rng.randint(0, 255, (30, 160, 3)).astype(np.uint8), (960, 180), interpolation=cv2.INTER_CUBIC)
    frames = []
    for k in range(count):
        frame = far[:360, 3 * k : 3 * k + 640].copy()
        frame[200:360] = near[:160, 9 * k : 9 * k + 640]
        frames.append(frame)
    return np.stack(frames)


def test_error_rises_with_known_jitter():
    frames = textured_flight()
    clean = temporal_sampson(frames, Sampson())
    assert clean.tse < 0.15
    values = [clean.tse_moving]
    y, x = np.mgrid[0:360, 0:640].astype(np.float32)
    for size in (0.25, 0.5, 1.0):
        shaken = frames.copy()
        for k in range(1, len(frames), 2):
            bend = size * np.sin(x / 23 + y / 31 + k)
            shaken[k] = cv2.remap(frames[k], x, (y + bend).astype(np.float32), cv2.INTER_LINEAR)
        values.append(temporal_sampson(shaken, Sampson()).tse_moving)
    assert values == sorted(values)
    assert values[-1] > 5 * values[0]


def test_same_numbers_every_time():
    frames = textured_flight(3)
    assert temporal_sampson(frames, Sampson()) == temporal_sampson(frames, Sampson())


def test_recordings(real_data, cli, capsys):
    moving = temporal_sampson(read_video(real_data / "videos" / "generated_robot.mp4"), Sampson())
    assert 0 < moving.tse < 2
    gr1 = real_data / "gr1_pick_place/videos/chunk-000/observation.images.ego_view/episode_000004.mp4"
    still = temporal_sampson(read_video(gr1)[:12], Sampson())
    assert still.static_share > 0.8
    assert cli("sampson", real_data / "videos" / "generated_robot.mp4", "--json") == 0
    assert '"tse"' in capsys.readouterr().out
    assert cli("sampson", real_data / "nothing.mp4") == 2


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("4", 4), ("4\nbecause", 4), ("Let me see.\n 2.\n", 2), ("**5**", 5), ("I give it a score of 3 because", None),
        ("Score: 3", 3), ("The score is 2.", 2), ("10/5", None), ("10", None), ("", None), ("3.5", None), ("0", None),
        ("Score: 3.5", None), ("Score: five", None), ("6", None), ("好的视频", None), ("1 2 3 4 5", None),
    ],
)  # fmt: skip
def test_scores_are_read_or_missing_never_made_up(text, score):
    assert parse_score(text) == score


def test_rubrics_ours_and_the_users(tmp_path):
    assert not load_rubric("physics").needs_instruction
    assert "lift it" in load_rubric("instruction").text("lift it")
    (tmp_path / "mine.yaml").write_text("system_prompt: s\nuser_prompt: 'did it {instruction}?'\n")
    assert load_rubric(str(tmp_path / "mine.yaml")).measure == "mine"
    (tmp_path / "bad.yaml").write_text("user_prompt: x\n")
    with pytest.raises(UserError, match="system_prompt"):
        load_rubric(str(tmp_path / "bad.yaml"))
    with pytest.raises(UserError, match="neither"):
        load_rubric("beauty")


def test_frames_keep_to_the_judges_rate_and_budget():
    frames = np.zeros((48, 432, 768, 3), np.uint8)
    assert sample_frames(frames, 16, 4, 10**9).shape == (12, 432, 768, 3)
    assert sample_frames(frames, 8, 16, 10**9).shape[0] == 48
    shown = sample_frames(frames, 16, 16, 6_400_000)
    assert np.prod(shown.shape[:3]) <= 6_400_000
    assert shown.shape[1] % 32 == shown.shape[2] % 32 == 0


def test_expected_score_by_hand():
    from cosmos_exp.metrics.reason2 import expected_score

    table = np.array([0.1, 0.2, 0.3, 0.25, 0.15])
    assert expected_score(np.log(table)) == pytest.approx(0.1 + 0.4 + 0.9 + 1.0 + 0.75)
    assert expected_score(np.array([-50.0, -50, -50, -50, 900])) == pytest.approx(5)


@pytest.fixture(scope="module")
def tiny_reason2(tmp_path_factory):
    """A randomly initialised Qwen3-VL with its real processor classes."""
    import torch
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    from cosmos_exp.tabletop.build import build_tokenizer

    folder = tmp_path_factory.mktemp("reason2")
    tokenizer: PreTrainedTokenizerFast = build_tokenizer()
    marks = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"extra_special_tokens": marks})
    start, end, image, video = tokenizer.convert_tokens_to_ids(marks)
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'video' %}"
        "<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16), tokenizer=tokenizer, video_processor=Qwen3VLVideoProcessor(),
        chat_template=template,
    )  # fmt: skip
    processor.save_pretrained(folder)
    torch.manual_seed(0)
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True, "rope_theta": 1e4}}  # fmt: skip
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32, "patch_size": 16,
              "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}  # fmt: skip
    config = Qwen3VLConfig(
        text_config=text, vision_config=vision, image_token_id=image, video_token_id=video, vision_start_token_id=start,
        vision_end_token_id=end,
    )  # fmt: skip
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_reason2_answers_through_the_real_classes(tiny_reason2):
    import torch

    from cosmos_exp.metrics.reason2 import Reason2

    judge = Reason2(Judge(name="reason2", source=str(tiny_reason2), max_new_tokens=6), torch.device("cpu"), "no", 0)
    frames = Scene.sample(1, "robot", num_frames=5).clip().frames
    rubric = load_rubric("instruction")
    answer = judge.answer(frames, 8, rubric, "pick up the red block")
    assert answer == judge.answer(frames, 8, rubric, "pick up the red block")
    assert answer.score == parse_score(answer.text)
    assert answer.expected is None or 1 <= answer.expected <= 5


def test_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.RandomState(0)
    hits = 0
    for trial in range(120):
        values = list(rng.normal(3, 1, 25))
        _, low, high = mean_interval(values, seed=trial)
        hits += low <= 3 <= high
    assert 0.88 <= hits / 120 <= 0.99


def test_missing_scores_are_counted_not_filled_in():
    def row(sample, seed, value):
        return {"sample": sample, "seed": seed, "measure": "physics", "value": value, "detail": {}}

    table = summarize([row("a", 0, 1), row("a", 1, 3), row("b", 0, 4), row("c", 0, None)])["physics"]
    assert (table["mean"], table["n"], table["videos"], table["missing"]) == (3.0, 2, 4, 1)
    assert summarize([row("a", 0, None)])["physics"]["mean"] is None


def test_a_run_is_judged_and_what_holds_no_score_is_missing(tiny_reason2, cli, tmp_path):
    """The judge in a run's evaluate stage; a random judge's answers hold no score, which is told, not filled in."""
    from conftest import SMALL

    from cosmos_exp.run_folder import RunFolder, read_json_lines

    words = ["judge=reason2_2b", f"judge.source={tiny_reason2}", "judge.max_new_tokens=4", "adapter=none"]
    assert cli("run", *SMALL, *words, f"run_dir={tmp_path / 'run'}") == 0
    folder = RunFolder(tmp_path / "run")
    rows = [r for r in read_json_lines(folder.scores) if r["measure"] in ("physics", "instruction")]
    assert len(rows) == 4
    for row in rows:
        assert row["value"] == parse_score(row["detail"]["answer"])
        assert row["detail"]["judge"] == tiny_reason2.name
    table = folder.read(folder.metrics)["measures"]["physics"]
    assert table["missing"] == sum(r["value"] is None for r in rows if r["measure"] == "physics")


def test_a_missing_judge_is_told_before_anything_is_trained(cli, tmp_path, capsys):
    from conftest import SMALL

    words = ["judge=reason2_2b", "judge.source=/nowhere/reason2", f"run_dir={tmp_path / 'run'}"]
    assert cli("run", *SMALL, *words) == 2
    assert "judge.source=/nowhere/reason2" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
