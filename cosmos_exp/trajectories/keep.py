"""The condition of --keep: comparisons of measures with numbers, and `and`, `or`, `not`. Parsed, never executed."""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from cosmos_exp.errors import UserError
from cosmos_exp.text import one_line

EXAMPLE = "instruction>=4 and physics>=3 and tse<0.5"
LONGEST = 1000  # characters
NO_SCORE = "no score"  # begins the reason of an episode that cannot be judged
_COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_HINTS = {
    r"[&|]": " Write and, or, not.",
    r"=[<>]": " Write <= or >=.",
    r"(?<![<>=!])=(?!=)": " Compare with == instead of =.",
}
Scores = Mapping[str, float | None]


@dataclass(frozen=True)
class Keep:
    """A checked condition.

    Attributes:
        text: as it was typed.
        measures: the measures that it names, in its order.
        parts: what has to hold together: the operands of the outermost `and`.
    """

    text: str
    measures: tuple[str, ...]
    parts: tuple[ast.expr, ...]

    def refusal(self, scores: Scores) -> str | None:
        """Why an episode is dropped: the first part that does not hold, or the first score that is missing. None: it is kept."""
        missing = [name for name in self.measures if scores.get(name) is None]
        if missing:
            return f"{NO_SCORE}: {missing[0]}"
        known = {name: float(value) for name, value in scores.items() if value is not None}
        failed = next((part for part in self.parts if not _holds(part, known)), None)
        return None if failed is None else f"not {ast.unparse(failed)}"


def parse_keep(text: str, problem_of: Callable[[str], str | None]) -> Keep:
    """Parse and check a condition.

    Args:
        problem_of: what is wrong with the name of a measure; None: nothing.

    Raises:
        UserError: it is no condition, or names something else than these measures.
    """
    if not text.strip() or len(text) > LONGEST:
        raise UserError(f"--keep: give a condition of at most {LONGEST} characters, e.g. --keep '{EXAMPLE}'")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        names = list(dict.fromkeys(_names(tree, text)))
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        hint = next((hint for pattern, hint in _HINTS.items() if re.search(pattern, text)), "")
        reason = one_line(getattr(error, "msg", None) or error)
        raise UserError(
            f"--keep '{one_line(text)}': cannot be read ({reason}).{hint} Write e.g. '{EXAMPLE}'."
        ) from error
    for name in names:
        problem = problem_of(name)
        if problem:
            raise UserError(f"--keep: {one_line(name)}: {problem}")
    if not names:
        raise UserError(f"--keep '{one_line(text)}': names no measure. Write e.g. '{EXAMPLE}'.")
    parts = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
    return Keep(text.strip(), tuple(names), tuple(parts))


def unknown(name: str, measures: Collection[str]) -> str:
    """`no measure of these videos. Did you mean physics? …`: near names first, then all."""
    near = difflib.get_close_matches(name.lower(), measures, n=2, cutoff=0.6)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"no measure of these videos.{hint} There are {', '.join(measures)}."


def _names(node: ast.expr, text: str, wants: str = "condition") -> Iterator[str]:
    """The measures below a node that has to be a condition or a value.

    Raises:
        UserError: it is something else.
    """
    if wants == "condition":
        if isinstance(node, ast.BoolOp):
            for value in node.values:
                yield from _names(value, text)
            return
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield from _names(node.operand, text)
            return
        if isinstance(node, ast.Compare) and all(type(op) in _COMPARISONS for op in node.ops):
            for value in (node.left, *node.comparators):
                yield from _names(value, text, "value")
            return
    elif name := _name(node):
        yield name
        return
    elif _number(node) is not None:
        return
    what = "a measure or a number" if wants == "value" else "a comparison (<, <=, >, >=, ==, !=), and, or, not"
    raise UserError(
        f"--keep '{one_line(text)}': {one_line(ast.unparse(node))!r} is not {what}. Write e.g. '{EXAMPLE}'."
    )


def _name(node: ast.expr) -> str | None:
    """The measure that a value names: by a plain name, or in quotes, for names with - or a dot."""
    if isinstance(node, ast.Name):
        return node.id
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _number(node: ast.expr) -> float | None:
    """The value of a number with or without a minus sign; None for anything else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _number(node.operand)
        return None if value is None else -value
    plain = isinstance(node, ast.Constant) and type(node.value) in (int, float)
    return float(node.value) if plain else None  # type: ignore[attr-defined, arg-type]  # a Constant with a number


def _holds(node: ast.expr, scores: Mapping[str, float]) -> bool:
    """Whether a checked condition holds."""
    if isinstance(node, ast.BoolOp):
        every = all if isinstance(node.op, ast.And) else any
        return every(_holds(value, scores) for value in node.values)
    if isinstance(node, ast.UnaryOp):
        return not _holds(node.operand, scores)
    assert isinstance(node, ast.Compare)
    values = [_value(v, scores) for v in (node.left, *node.comparators)]
    compared = zip(node.ops, values, values[1:], strict=False)
    return all(_COMPARISONS[type(op)](a, b) for op, a, b in compared)


def _value(node: ast.expr, scores: Mapping[str, float]) -> float:
    name, number = _name(node), _number(node)
    if name is not None:
        return scores[name]
    assert number is not None
    return number
