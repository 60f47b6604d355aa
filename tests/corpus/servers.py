"""A judge's server that misbehaves, on a thread of this process."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

from local_server import listening

MODELS = {"data": [{"id": "m", "object": "model"}]}


def completion(content: object) -> str:
    """The body of a chat completion with one choice."""
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]})


@contextlib.contextmanager
def serve(
    answer: Callable[[int], str | bytes], models: str | None = None, drip: float = 0.0
) -> Iterator[tuple[str, list[int]]]:
    """A server on this machine.

    Args:
        answer: the body of the k-th chat completion, k from 0.
        models: the body of the list of models; None: one model, m.
        drip: seconds between the bytes of an answer that never ends; 0: the answer is sent at once.

    Yields:
        its address up to /v1, and the numbers of the completions asked for.
    """
    asked: list[int] = []
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send((models or json.dumps(MODELS)).encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(len(asked))
            body = answer(asked[-1])
            self._send(body if isinstance(body, bytes) else body.encode(), slow=drip > 0)

        def _send(self, body: bytes, slow: bool = False) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(10**6 if slow else len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                while slow and not stopped.is_set():
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(drip)
                self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    with listening(Handler) as address:
        try:
            yield f"{address}/v1", asked
        finally:
            stopped.set()
