"""A judge's server that misbehaves, on a thread of this process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

from local_server import listening

MODELS = {"data": [{"id": "m", "object": "model"}]}


def completion(content: object) -> str:
    """The body of a chat completion with one choice."""
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]})


@contextlib.contextmanager
def serve(answer: Callable[[int], str], models: str | None = None) -> Iterator[tuple[str, list[int]]]:
    """A server on this machine.

    Args:
        answer: the body of the k-th chat completion, k from 0.
        models: the body of the list of models; None: one model, m.

    Yields:
        its address up to /v1, and the numbers of the completions asked for.
    """
    asked: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send((models or json.dumps(MODELS)).encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(len(asked))
            self._send(answer(asked[-1]).encode())

        def _send(self, body: bytes) -> None:
            with contextlib.suppress(OSError):  # the client may be gone
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    with listening(Handler) as address:
        yield f"{address}/v1", asked
