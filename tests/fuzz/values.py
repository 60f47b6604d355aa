"""Strategies for single values: nasty texts and numbers, JSON and YAML of any shape, and mutations of JSON and of bytes."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

ESCAPE = "\x1b[2J\x1b]0;owned\x07"
SCRIPT = "<script>alert(1)</script>"
TRICKS = (
    "",
    " ",
    ESCAPE,
    SCRIPT,
    "<img src=x onerror=alert(1)>",
    "![x](http://attacker.invalid/x.png)",
    "[/red]",
    "[bold",
    "=1+1",
    "@SUM(A1)",
    "../../../private.mp4",
    "../private.txt",
    "/etc/passwd",
    "..",
    ".",
    "~",
    "C:\\x",
    "a/b",
    "a\\b",
    "nan",
    "null",
    "1e999",
    "0x10",
    "${oc.env:HOME}",
    "${model.height}",
    "${",
    "???",
    "%s",
    "{0}",
    "{episode_index}",
    "$E=mc^2$",
    "$",
    "_^",
    "\\frac{",
    "|",
    "`",
    "a\nb",
    "\u202e",
    "\ufeff",
    "\ud83d",
    "\U0001f600" * 3,
    "Ä" * 300,
    "x" * 5000,
    "friend.evil.J",
    "os.system",
)
TEXTS = st.one_of(st.sampled_from(TRICKS), st.text(max_size=12))
NUMBERS = st.one_of(
    st.integers(-3, 40),
    st.sampled_from((2**31, 2**32 - 1, 2**63, -(2**63), 10**21, 10**30, 10**400)),
    st.floats(-10, 10, allow_nan=False),
    st.sampled_from((float("nan"), float("inf"), -float("inf"), -0.0, 1e-300, 1e308, 0.5)),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
DEEP = st.integers(10, 3000).map(lambda depth: "[" * depth + "]" * depth)  # text of JSON and of YAML


@st.composite
def changed(draw: Any, content: Any, values: st.SearchStrategy[Any] = JSON, most: int = 3) -> Any:  # Any: JSON
    """JSON content with one to `most` changes: another value, an entry fewer, an entry more, an entry twice."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, most))):
        places = list(_places(content))
        if not places:
            return draw(values)
        owner, key = draw(st.sampled_from(places))
        how = draw(st.sampled_from(("replace", "replace", "replace", "remove", "add", "twice")))
        if how == "replace":
            owner[key] = draw(values)
        elif how == "remove":
            owner.pop(key)
        elif isinstance(owner, dict):
            owner[draw(TEXTS)] = copy.deepcopy(owner[key]) if how == "twice" else draw(values)
        else:
            owner.insert(key, copy.deepcopy(owner[key]) if how == "twice" else draw(values))
    return content


def _places(content: Any) -> Any:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield content, key
        yield from _places(value)


def encoded(text: str) -> bytes:
    """UTF-8 also of halves of surrogate pairs, which Python refuses by itself."""
    return text.encode("utf-8", "surrogatepass")


class File(bytes):
    """The content of a file with a short representation, for the report of a failure."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} bytes, {bytes(self[:400])!r}...)"


@st.composite
def spoiled(draw: Any, raw: bytes) -> File:
    """Bytes with a few of them changed, a piece removed, repeated or inserted, or cut short."""
    data = bytearray(raw)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(1, 40))
        how = draw(st.sampled_from(("change", "insert", "remove", "repeat", "cut")))
        if how == "change":
            data[at : at + length] = draw(st.binary(min_size=1, max_size=length))
        elif how == "insert":
            data[at:at] = draw(st.one_of(st.binary(max_size=8), st.sampled_from(TRICKS).map(encoded)))
        elif how == "remove":
            del data[at : at + length]
        elif how == "repeat":
            data[at:at] = data[at : at + length]
        else:
            del data[at:]
    return File(data)
