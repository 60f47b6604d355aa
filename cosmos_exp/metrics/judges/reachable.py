"""Does the judge's server answer? Asked before training, which may take hours; sends no key and no video."""

from __future__ import annotations

import httpx

from cosmos_exp.config.schema import Judge
from cosmos_exp.metrics.judges.deadline import DeadlineClient
from cosmos_exp.text import one_line, redact

SECONDS = 5.0


def server_warning(judge: Judge, seconds: float = SECONDS) -> str | None:
    """What to say of a server that does not answer; None if it does, or if no server judges.

    It is a warning and no error: a server may be started while the run trains.
    """
    if judge.name != "server" or not judge.url:
        return None
    try:
        with DeadlineClient(seconds) as client:
            code = client.get(f"{judge.url.rstrip('/')}/models").status_code
        if code < 500:  # also 401: it is there, and wants the key
            return None
        reason = f"it answers {code}"
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        reason = f"{type(error).__name__}: {one_line(error)[:120]}"
    return redact(
        f"judge.url={one_line(judge.url)}: no answer ({reason}). Scoring will fail unless the server is up when the videos are "
        "made. Start it, e.g. with `vllm serve MODEL`; after a failure `cosmos-exp run run_dir=…` scores what is there."
    )
