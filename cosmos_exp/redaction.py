"""Secrets taken out of what is written: configurations, status, logs, the dashboard, the terminal."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"

_IN_URL = re.compile(r"(?<=://)[^/\s@'\"]+@")
_KEYS = (
    r"\bsk-[A-Za-z0-9_-]{16,}",  # OpenAI and others
    r"\bhf_[A-Za-z0-9]{16,}",
    r"\bnvapi-[A-Za-z0-9_-]{16,}",
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bglpat-[A-Za-z0-9_-]{16,}",
    r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    r"\bA(?:KIA|SIA)[A-Z0-9]{16}\b",
    r"\bAIza[A-Za-z0-9_-]{30,}",
    r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*",  # JSON web token
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----",
)
_KEY = re.compile("|".join(_KEYS))
_NAMED = re.compile(
    r"(?i)\b(bearer\s+|(?:api[_-]?key|access[_-]?token|token|password|passwd|secret)=)[^\s&'\",}\]]{6,}"
)
_SECRET_VARIABLE = re.compile(r"(?i)(?:key|token|secret|password|passwd)$")
_SHORTEST = 12  # a shorter value of a variable may be an ordinary word


def redact(text: str) -> str:
    """The text with secrets replaced by `***`.

    These are the user and password in a URL, keys of known forms, what follows `token=`, `api_key=`, `Bearer` and the
    like, and the values of environment variables whose names end in KEY, TOKEN, SECRET or PASSWORD.
    """
    text = _NAMED.sub(lambda found: found.group(1) + HIDDEN, _KEY.sub(HIDDEN, _IN_URL.sub(HIDDEN + "@", text)))
    for value in _values():
        text = text.replace(value, HIDDEN)
    return text


def redacted(content: Any) -> Any:  # Any: JSON of any type
    """JSON content with `redact` applied to every string in it."""
    if isinstance(content, str):
        return redact(content)
    if isinstance(content, Mapping):
        return {key: redacted(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [redacted(value) for value in content]
    return content


def _values() -> list[str]:
    """Values of environment variables that are secrets: by their name, and with a digit, so that no word is taken."""
    return [
        value
        for name, value in os.environ.items()
        if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST and re.search(r"\d", value) and "/" not in value
    ]
