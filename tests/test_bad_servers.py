"""A judge's server that answers garbage, answers slowly, or fails in the middle: one clear error, and scores are kept."""

import contextlib
import json
import time
from http.server import BaseHTTPRequestHandler

import pytest
from bad_inputs import video
from local_server import listening

ENDPOINT = "Check that judge.url is the address of the endpoint, up to /v1"


def completion(content):
    """The body of a chat completion with one choice."""
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]})


@contextlib.contextmanager
def serve(answer):
    """A server on a thread of this process.

    Args:
        answer: the body of the k-th chat completion, k from 0.

    Yields:
        its address up to /v1, and the numbers of the completions asked for.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send('{"data": [{"id": "m", "object": "model"}]}')

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(len(asked))
            self.send(answer(asked[-1]))

        def send(self, body):
            with contextlib.suppress(OSError):  # the client may be gone
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

        def log_message(self, *words):
            pass

    with listening(Handler) as address:
        yield f"{address}/v1", asked


def judge(folder, url, *more, clips=1):
    """`judge` of some clips by a server."""
    names = [folder / f"clip{k}.mp4" for k in range(clips)]
    for k, name in enumerate(names):
        name.write_bytes(video() + bytes([k]))  # other bytes, other question
    keys = [f"judge.url={url}", "judge.retries=0", *more]
    return ["judge", *names, "--judge", "server", "--rubric", "physics", "--set", *keys]


@pytest.mark.parametrize("body", ["\x1b[2J!", "<html>502 Bad Gateway</html>", '{"choices": []}', completion(5), ""])
def test_an_answer_that_is_no_completion(body, tmp_path, answered):
    with serve(lambda k: body) as (url, asked):
        answered(judge(tmp_path, url), 1, f"judge.url={url}", ENDPOINT)
    assert asked == [0]


def test_reasoning_without_an_answer_is_no_score_and_named(tmp_path, answered):
    body = completion("").replace('"content": ""', '"content": "", "reasoning": "Score: 4, or is it"')
    with serve(lambda k: body) as (url, _):
        answered(judge(tmp_path, url), 1, "reasoning without an answer; raise judge.max_new_tokens")


def test_a_server_that_does_not_answer_in_time(tmp_path, answered):
    with serve(lambda k: time.sleep(1) or completion("4")) as (url, _):
        answered(judge(tmp_path, url, "judge.timeout=0.2"), 1, "no answer within judge.timeout=0.2 s")


@pytest.mark.parametrize("batch", [1, 8])
def test_scores_before_a_failure_are_kept(batch, tmp_path, answered):
    """One video of three fails. The scores of the others are kept: the next call asks for that one alone."""
    good = []
    with serve(lambda k: completion("4") if k < 2 or good else "garbage") as (url, asked):
        words = judge(tmp_path, url, f"judge.batch={batch}", clips=3)
        answered(words, 1)
        assert len(asked) == 3
        good.append(True)
        rows, _ = json.JSONDecoder().raw_decode(answered([*words, "--json"], 0))  # progress follows
        assert len(asked) == 4
    assert [row["score"] for row in rows] == [4, 4, 4]
    assert sorted(row["cached"] for row in rows) == [False, True, True]


def test_a_server_that_is_down_is_a_warning_before_training(answered):
    words = ["doctor", "judge=server", "judge.url=http://me:sk-secret@127.0.0.1:9/v1", "tracking=none"]
    said = "warn  server     judge.url=http://***@127.0.0.1:9/v1: no answer (ConnectError"
    answered(words, 0, said, absent=("sk-secret",))
