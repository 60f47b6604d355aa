"""Text from records, captions, file names and servers, made safe to print and to write into a report."""

from __future__ import annotations

import re
from typing import Any

# C0 and C1 control characters, which hold the escape sequences of terminals, line separators, and the characters that
# change the direction of text (Trojan Source, CVE-2021-42574). Line feed and tab are left.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_LINK = re.compile(r"\]\(")
_FORMULA = ("=", "+", "-", "@", "\t")


def printable(text: object) -> str:
    r"""The text with each control character as a visible escape, e.g. ESC as `\x1b`. Lines and tabs are kept."""
    return CONTROL.sub(lambda found: _escape(found.group()), str(text))


def one_line(text: object) -> str:
    r"""`printable`, with line feeds and tabs as `\n` and `\t` too: for names, which have one line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def plain_json(content: Any) -> Any:  # Any: JSON of any type
    """JSON content whose strings and keys are `printable`."""
    if isinstance(content, str):
        return printable(content)
    if isinstance(content, dict):
        return {printable(k) if isinstance(k, str) else k: plain_json(v) for k, v in content.items()}
    return [plain_json(value) for value in content] if isinstance(content, list) else content


def can_hold_control(text: str) -> bool:
    """Whether a JSON text holds a control character, or an escape that can be one. False for most: a quick first look."""
    return re.search(r"\\[bfru]", text) is not None or CONTROL.search(text) is not None


def no_html(text: str) -> str:
    """The text without HTML tags: `<` before a name is `&lt;`. A comparison such as `a < b` or `p <0.05` is kept."""
    return _TAG.sub("&lt;", text)


def markdown(text: str) -> str:
    """A Markdown document whose data cannot hold tags, links, images or control characters."""
    return _LINK.sub("]&#40;", no_html(printable(text)))


def cell(text: object) -> str:
    """Text for a cell of a CSV file: one line, without tags, and no formula of a spreadsheet."""
    plain = no_html(one_line(text))
    return f"'{plain}" if plain.startswith(_FORMULA) else plain


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
