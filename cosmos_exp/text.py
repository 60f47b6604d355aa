"""Text that is safe to print and to write: without control characters, markup and secrets.

It comes from records, captions, file names, servers and the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

Json = TypeVar("Json")  # JSON of any type

# C0 and C1 control characters, which hold the escape sequences of terminals, line separators, the characters that change
# the direction of text (Trojan Source, CVE-2021-42574), and halves of surrogate pairs, which are no text: JSON can hold
# them, and a file's name that is not UTF-8 does. Line feed and tab are left.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_LINK = re.compile(r"\]\(")


def printable(text: object) -> str:
    r"""The text with each control character as a visible escape, e.g. ESC as `\x1b`. Lines and tabs are kept."""
    return CONTROL.sub(_escape, str(text))


def one_line(text: object) -> str:
    r"""`printable`, with line feeds and tabs as `\n` and `\t` too: for names, which have one line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def plain_json(content: Json) -> Json:
    """JSON content whose strings and keys are `printable`."""
    if not CONTROL.search(all_text(content)):
        return content
    return with_strings(content, printable)


def can_hold_control(text: str) -> bool:
    """Whether a JSON text holds a control character, or an escape that can be one. False for most: a quick first look."""
    return re.search(r"\\[bfru]", text) is not None or CONTROL.search(text) is not None


def markdown(text: str) -> str:
    """A Markdown document whose data cannot hold tags, links, images or control characters.

    `<` before a name is `&lt;`. A comparison such as `a < b` or `p <0.05` is kept.
    """
    return _LINK.sub("]&#40;", _TAG.sub("&lt;", printable(text)))


def _escape(control: re.Match[str]) -> str:
    code = ord(control.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


# --- secrets ---
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


def redact(text: str, values: Sequence[str] | None = None) -> str:
    """The text with secrets replaced by `***`.

    These are the user and password in a URL, keys of known forms, what follows `token=`, `api_key=`, `Bearer` and the
    like, and the values of environment variables whose names end in KEY, TOKEN, SECRET or PASSWORD.

    Args:
        values: those values, where they are known; looking them up takes longer than the rest.
    """
    text = _NAMED.sub(lambda match: match.group(1) + HIDDEN, _KEY.sub(HIDDEN, _IN_URL.sub(HIDDEN + "@", text)))
    for value in _values() if values is None else values:
        text = text.replace(value, HIDDEN)
    return text


def redacted(content: Json) -> Json:
    """JSON content with `redact` applied to every string in it."""
    values, text = _values(), all_text(content)
    if redact(text, values) == text:
        return content
    return with_strings(content, lambda text: redact(text, values))


def all_text(content: object) -> str:
    """All strings and keys of JSON content, in lines: one look at 100,000 names is a hundred times faster than one at each."""
    texts: list[str] = []
    rest = [content]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, Mapping):
            rest += [*value, *value.values()]
        elif isinstance(value, (list, tuple)):
            rest += value
    return "\n".join(texts)


def with_strings(content: Json, change: Callable[[str], str]) -> Json:
    """JSON content with each string and key changed."""
    changed: object = content
    if isinstance(content, str):
        changed = change(content)
    elif isinstance(content, Mapping):
        entries = {}
        for key, value in content.items():
            entries[with_strings(key, change)] = with_strings(value, change)
        changed = entries
    elif isinstance(content, (list, tuple)):
        changed = [with_strings(value, change) for value in content]
    return cast(Json, changed)


def _values() -> list[str]:
    """Values of environment variables that are secrets: by their name, and with a digit, so that no word is taken."""
    return [
        value
        for name, value in os.environ.items()
        if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST and re.search(r"\d", value) and "/" not in value
    ]
