"""A judge's server that answers garbage, answers slowly, or fails in the middle: one clear error, and scores are kept."""

import json
import time

import pytest
from corpus.cases import Case, check
from corpus.records import video
from corpus.servers import completion, serve

ENDPOINT = "Check that judge.url is the address of the endpoint, up to /v1"
BODIES = {
    "garbage": "\x00\x07\x1b[2J!",
    "HTML": "<html><body>502 Bad Gateway</body></html>",
    "no completion": '{"hello": 1}',
    "empty choices": '{"choices": []}',
    "content is a number": completion(5),
    "empty": "",
}


def judge(folder, url, *more, clips=1):
    """`judge` of some clips by a server."""
    for k in range(clips):
        (folder / f"clip{k}.mp4").write_bytes(video() + bytes([k]))  # other bytes, other question
    names = [str(folder / f"clip{k}.mp4") for k in range(clips)]
    more = more or ("judge.retries=0",)
    return ["judge", *names, "--judge", "server", "--url", url, "--rubric", "physics", "--set", *more]


@pytest.mark.parametrize("name", BODIES)
def test_an_answer_that_is_no_completion(name, tmp_path, cli, capfd):
    with serve(lambda k: BODIES[name]) as (url, asked):
        case = Case(name, lambda at: judge(at, url), 1, (f"judge.url={url}", ENDPOINT), ("\x1b",))
        check(case, tmp_path, cli, capfd)
    assert asked == [0]


@pytest.mark.parametrize("models", ["<html>", '{"hello": 1}'])
def test_a_list_of_models_that_is_none(models, tmp_path, cli, capfd):
    with serve(lambda k: completion("4"), models) as (url, asked):
        check(Case(models, lambda at: judge(at, url), 2, (f"judge.url={url}", ENDPOINT)), tmp_path, cli, capfd)
    assert asked == []


def test_broken_probabilities_are_left_out(tmp_path, cli, capfd):
    body = json.loads(completion("4"))
    body["choices"][0]["logprobs"] = {"content": [{"token": None, "top_logprobs": "x"}]}
    with serve(lambda k: json.dumps(body)) as (url, _):
        assert cli(*judge(tmp_path, url), "--json") == 0
    (row,) = json.loads(capfd.readouterr().out)
    assert (row["score"], row["expected"]) == (4, None)


def test_a_server_that_does_not_answer_in_time(tmp_path, cli, capfd):
    with serve(lambda k: time.sleep(1) or completion("4")) as (url, asked):
        settings = ("judge.retries=0", "judge.timeout=0.2")
        words = (f"judge.url={url}", "no answer within judge.timeout=0.2 s")
        check(Case("slow", lambda at: judge(at, url, *settings), 1, words), tmp_path, cli, capfd)
    assert len(asked) == 1


@pytest.mark.parametrize("batch", [1, 8])
def test_scores_before_a_failure_are_kept(batch, tmp_path, cli, capfd):
    """One video of three fails. The scores of the others are kept: the next call asks for that one alone."""
    good = []
    with serve(lambda k: completion("4") if k < 2 or good else "garbage") as (url, asked):
        argv = judge(tmp_path, url, "judge.retries=0", f"judge.batch={batch}", clips=3)
        assert cli(*argv) == 1
        assert len(asked) == 3
        good.append(True)
        capfd.readouterr()
        assert cli(*argv, "--json") == 0
        assert len(asked) == 4
    rows = json.loads(capfd.readouterr().out)
    assert [r["score"] for r in rows] == [4, 4, 4]
    assert sorted(r["cached"] for r in rows) == [False, True, True]


def test_a_server_that_is_down_is_a_warning_before_training(cli, capfd):
    words = ["judge=server", "judge.url=http://me:sk-secret@127.0.0.1:9/v1", "tracking=none"]
    assert cli("doctor", *words) == 0
    said = capfd.readouterr().out
    assert "warn  server     judge.url=http://***@127.0.0.1:9/v1: no answer (ConnectError" in said
    assert "sk-secret" not in said
    with serve(lambda k: completion("4")) as (url, _):
        assert cli("doctor", "judge=server", f"judge.url={url}", "tracking=none") == 0
    assert "warn" not in capfd.readouterr().out
