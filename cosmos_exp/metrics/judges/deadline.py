"""An HTTP client with a deadline for a whole answer, and a limit to its size.

The timeouts of httpx are for one read each, so that a server that sends a byte now and then is waited for without end.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import httpx

MOST_BYTES = 2**26  # of an answer
_CHUNK = 2**16


class DeadlineClient(httpx.Client):
    """httpx's client. A request whose answer is not complete after `seconds` raises `httpx.ReadTimeout`."""

    def __init__(self, seconds: float):
        super().__init__(timeout=seconds, follow_redirects=True)
        self.seconds = seconds

    def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        """Send a request and read the whole answer. `stream` has no effect: the answer is complete anyway."""
        done: Future[httpx.Response] = Future()
        late = threading.Event()

        def work() -> None:
            try:
                done.set_result(self._read(super(DeadlineClient, self).send(request, stream=True, **options), late))
            except BaseException as error:
                done.set_exception(error)

        # A daemon: neither the caller nor the end of the process waits for a server that does not finish.
        threading.Thread(target=work, name="judge request", daemon=True).start()
        try:
            return done.result(self.seconds)
        except TimeoutError as error:
            late.set()
            raise httpx.ReadTimeout(f"no complete answer within {self.seconds:g} s", request=request) from error

    def _read(self, response: httpx.Response, late: threading.Event) -> httpx.Response:
        """The response with its body, decoded."""
        body, size = [], 0
        try:
            for chunk in response.iter_bytes(_CHUNK):
                body.append(chunk)
                size += len(chunk)
                if late.is_set() or size > MOST_BYTES:
                    raise httpx.DecodingError(
                        f"the answer has more than {MOST_BYTES // 2**20} MiB", request=response.request
                    )
        finally:
            response.close()
        headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in _OF_THE_TRANSFER]
        return httpx.Response(response.status_code, headers=headers, content=b"".join(body), request=response.request)


_OF_THE_TRANSFER = ("content-encoding", "content-length", "transfer-encoding")  # the body is decoded and whole
