"""What an OpenAI-compatible server answers, checked: a server can send anything."""

from __future__ import annotations

import json

import numpy as np
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice

from cosmos_exp.files import JsonObject
from cosmos_exp.metrics.judges.answers import expected_score, find_score
from cosmos_exp.text import one_line

SHOWN = 80  # characters of a wrong answer in an error


def first_choice(text: str) -> Choice:
    """The first choice of a chat completion; its message has text or None.

    Raises:
        ValueError: the text is no chat completion. The message says what it is.
    """
    content = _json_object(text)
    choices = content.get("choices")
    if not isinstance(choices, list) or not choices:
        what = "an empty list of choices" if choices == [] else "no choices"
        raise ValueError(f"the answer is no chat completion: it has {what} ({_begin(text)})")
    message = choices[0].get("message") if isinstance(choices[0], dict) else None
    if not isinstance(message, dict) or not isinstance(message.get("content"), (str, type(None))):
        raise ValueError(
            f"the answer is no chat completion: its first choice has no message with text ({_begin(text)})"
        )
    return ChatCompletion.construct(**content).choices[0]


def model_names(text: str) -> list[str]:
    """The names in the answer to a request for the models.

    Raises:
        ValueError: the text is no list of models.
    """
    rows = _json_object(text).get("data")
    if not isinstance(rows, list) or not all(isinstance(r, dict) and isinstance(r.get("id"), str) for r in rows):
        raise ValueError(f"the answer is no list of models ({_begin(text)})")
    return [one_line(r["id"]) for r in rows]


def _json_object(text: str) -> JsonObject:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the answer is not JSON ({_begin(text)})") from error
    if not isinstance(content, dict):
        raise ValueError(f"the answer is no JSON object ({_begin(text)})")
    return content


def _begin(text: str) -> str:
    return f"it begins with {one_line(text.strip())[:SHOWN]!r}" if text.strip() else "it is empty"


def expected_in_reply(reply: Choice, text: str) -> float | None:
    """Mean of 1 to 5 under the token probabilities at the position of the score; None without score or probabilities.

    Servers list the most likely tokens only. A digit that is not listed has probability 0.
    """
    try:
        return _expected(reply, text)
    except (AttributeError, TypeError, ValueError):  # the probabilities are not as the API has them
        return None


def _expected(reply: Choice, text: str) -> float | None:
    tokens = reply.logprobs.content if reply.logprobs else None
    found = find_score(text)
    if not tokens or found is None:
        return None
    end = 0  # of the token in the text
    for token in tokens:
        end += len(token.token)
        if end > found[1]:
            listed = {t.token.strip(): t.logprob for t in token.top_logprobs or []}
            if token.token.strip() not in listed:
                return None
            return expected_score(np.array([listed.get(str(d), -np.inf) for d in range(1, 6)]))
    return None
