"""The judge: reading scores from hostile answers, the real classes at a tiny size, a real server, retries, cache."""

import hub_repositories
import numpy as np
import pytest
from conftest import wait_until

from cosmos_exp.config.schema import Judge
from cosmos_exp.data.video import read_video, write_video
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.judges.asking import judge_all
from cosmos_exp.metrics.judges.interface import Answer, Question, parse_score, sample_frames
from cosmos_exp.metrics.judges.rubric import load_rubric
from cosmos_exp.tabletop.scene import Scene


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("4\nbecause", 4),
        ("Let me see.\n 2.\n", 2),
        ("**5**", 5),
        ("The score is 2.", 2),
        ("<think>\n2\n</think>\n4", 4),
        ("<think>2\n3\n", None),
        ("I give it a 4 because 3 things are wrong", None),
        ("score: 4/5", None),
        ("Score: 3.5", None),
        ("Score (1-5): 4", 4),
        ("Score: 3-4", None),
        ("10", None),
        ("", None),
    ],
)
def test_scores_are_read_or_missing_never_invented(text, score):
    assert parse_score(text) == score


def test_built_in_rubrics_and_rubrics_of_the_user(tmp_path):
    assert not load_rubric("physics").needs_instruction
    assert "lift it" in load_rubric("instruction").text("lift it")
    mine = tmp_path / "mine.yaml"
    mine.write_text("system_prompt: s\nuser_prompt: 'did it {instruction}?'\n")
    assert load_rubric(str(mine)).measure == "mine"
    mine.write_text("user_prompt: x\n")
    for bad, said in ((mine, "system_prompt"), ("beauty", "neither")):
        with pytest.raises(UserError, match=said):
            load_rubric(str(bad))


def test_frames_respect_the_judges_rate_number_and_pixel_budget():
    frames, plenty = np.zeros((93, 432, 768, 3), np.uint8), Judge(max_total_pixels=10**9)

    def sampled(settings):
        kept, rate = sample_frames(frames, 16, settings)
        return kept.shape[:3], rate

    assert sampled(plenty.updated({"fps": 4})) == ((24, 432, 768), 4)
    assert sampled(plenty.updated({"max_frames": 10})) == ((10, 432, 768), pytest.approx(16 / 9.3))
    # qwen_vl_utils 0.0.14: each frame may have total_pixels / frames * 2 = 138,119 pixels, as two share a temporal patch.
    assert sampled(Judge()) == ((93, 256, 480), 16)


@pytest.fixture(scope="module")
def tiny_reason2(tmp_path_factory):
    """A random Qwen3-VL of two small layers, with its real processor classes."""
    return hub_repositories.reason2(tmp_path_factory.mktemp("hub"), "a/judge")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A short robot clip as a file."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, Scene.sample(1, "robot", num_frames=5).clip().frames, 8)
    return path


def loaded(folder, **settings):
    import torch

    from cosmos_exp.metrics.judges.reason2 import Reason2

    settings = Judge(name="reason2", source=str(folder), max_new_tokens=6, **settings)
    return Reason2(settings, torch.device("cpu"), "no"), settings


def test_reason2_answers_through_the_real_classes_alone_and_in_a_batch(tiny_reason2, clip):
    judge, _ = loaded(tiny_reason2)
    questions = [Question(clip, load_rubric("physics"), None), Question(clip, load_rubric("instruction"), "lift it")]
    together = judge.ask(questions, 0.0, 0)
    assert together == judge.ask(questions, 0.0, 7)  # greedy: the seed does not matter
    for question, answer in zip(questions, together, strict=True):
        assert judge.ask([question], 0.0, 0)[0].text == answer.text
        assert answer.score == parse_score(answer.text)
    assert judge.ask(questions, 5.0, 0) == judge.ask(questions, 5.0, 0)
    assert judge.ask(questions, 5.0, 0) != judge.ask(questions, 5.0, 1)


def test_the_expected_score_is_read_where_the_score_was_written(tiny_reason2):
    import torch

    judge, _ = loaded(tiny_reason2)
    tokens = torch.tensor(judge.processor.tokenizer.encode("4\nbecause 3 things are", add_special_tokens=False))
    table = np.array([0.1, 0.2, 0.3, 0.25, 0.15])
    logits = [torch.zeros(len(judge.processor.tokenizer)) for _ in tokens]
    logits[0][judge.digit_ids] = torch.from_numpy(np.log(table)).float() + 3
    back = judge.processor.tokenizer.decode(tokens)
    assert judge.expected(tokens, logits, back) == pytest.approx(float(table @ np.arange(1, 6)), abs=1e-5)
    assert judge.expected(tokens, logits, "nothing") is None


class Scripted:
    """A judge with scripted answers that counts its questions."""

    name, batch = "scripted", 2

    def __init__(self, *texts):
        self.texts, self.asked = list(texts), []

    def identity(self):
        return {"scripted": True}

    def ask(self, questions, temperature, seed):
        self.asked.append((len(questions), temperature, seed))
        texts = [self.texts.pop(0) for _ in questions]
        return [Answer(parse_score(t), None, t) for t in texts]


def questions_of(clip, count):
    return [Question(clip, load_rubric("instruction"), f"do {k}") for k in range(count)]


def test_an_answer_without_a_score_is_asked_for_once_more_then_missing(clip, tmp_path):
    judge, settings = Scripted("hm", "4", "3", "no", "never"), Judge(name="reason2", source="m")
    verdicts = [v for _, v in judge_all(judge, questions_of(clip, 3), settings, 0, tmp_path)]
    # Two at once: "hm" and "4"; "hm" again: "3". Then "no" alone, and again: "never".
    assert [(v.score, v.unparsed) for v in verdicts] == [(3, 1), (4, 0), (None, 2)]
    assert judge.asked[1][1] > 0 == judge.asked[0][1]
    next(tmp_path.glob("*.json")).write_text("{")  # cut short by a crash: asked for again, as the missing one
    judge = Scripted("5", "5")
    assert sum(v.cached for _, v in judge_all(judge, questions_of(clip, 3), settings, 0, tmp_path)) == 1
    judge = Scripted(
        "4", "5", "3"
    )  # several samples have their own seeds and are averaged; another seed, other answers
    settings = settings.updated({"samples": 3})
    ((_, verdict),) = judge_all(judge, questions_of(clip, 1), settings, 10, tmp_path)
    assert verdict.score == 4
    assert [seed for _, _, seed in judge.asked] == [10, 11, 12]


@pytest.fixture(scope="module")
def server(tiny_reason2):
    """`transformers serve` with the tiny model, on a thread of this process."""
    from transformers.cli.serve import Serve

    serving = Serve(str(tiny_reason2), device="cpu", dtype="float32", host="127.0.0.1", port=0, non_blocking=True)
    wait_until(lambda: serving.server.started, 60)
    yield f"http://127.0.0.1:{serving.server.servers[0].sockets[0].getsockname()[1]}/v1"
    serving.kill_server()


def test_a_real_server_gives_the_same_answers_as_the_model(server, tiny_reason2, clip):
    import torch
    from PIL import Image

    from cosmos_exp.metrics.judges.server import ServerJudge

    settings = Judge(name="server", url=server, source=str(tiny_reason2), media="frames", max_new_tokens=6)
    judge, question = ServerJudge(settings), Question(clip, load_rubric("instruction"), "lift it")
    (answer,) = judge.ask([question], 0.0, 0)
    assert judge.logprobs is False  # this server returns none
    local, _ = loaded(tiny_reason2)
    content = [{"type": "image", "image": Image.fromarray(f)} for f in read_video(clip)]
    content.append({"type": "text", "text": question.rubric.text(question.instruction)})
    system = [{"type": "text", "text": question.rubric.system_prompt}]
    inputs = local.processor.apply_chat_template(
        [{"role": "system", "content": system}, {"role": "user", "content": content}],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )
    with torch.no_grad():
        out = local.model.generate(**inputs, max_new_tokens=6, do_sample=False)
    text = local.processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert (answer.text, answer.score) == (text, parse_score(text))


def test_expected_score_from_a_servers_token_probabilities():
    from types import SimpleNamespace as Bag

    from cosmos_exp.metrics.judges.server import expected_in_reply

    listed = [Bag(token=token, logprob=float(np.log(p))) for token, p in (("4", 0.6), ("5", 0.2), ("2", 0.2))]
    tokens = [Bag(token=token, top_logprobs=listed if token == "4" else []) for token in ("Score", ": ", "4")]
    reply = Bag(logprobs=Bag(content=tokens))
    assert expected_in_reply(reply, "Score: 4") == pytest.approx(0.6 * 4 + 0.2 * 5 + 0.2 * 2)
    assert expected_in_reply(Bag(logprobs=None), "4") is None


def test_the_command_judges_by_the_rules(tmp_path, answered):
    scene, path = Scene.sample(3, "robot"), tmp_path / "a.mp4"
    write_video(path, scene.clip().frames, 8)
    answered(["judge", path, "--judge", "rules", "--prompt", scene.prompt], 0, "instruction  5")
    answered(["judge", path, "--judge", "rules", "--rubric", "instruction"], 2, "--prompt")
