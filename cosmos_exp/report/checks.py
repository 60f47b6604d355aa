"""One check of `cosmos-exp report --verify`: what was looked at, what is wrong, and what could not be checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cosmos_exp.errors import UserError


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        what: What was looked at.
        findings: What is wrong.
        notes: What could not be checked, without being wrong: records of older versions, files that were not published.
    """

    name: str
    what: str
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """The check; a record that cannot be read is its finding."""
    return guarded_all(name, lambda: [check()])[0]


def guarded_all(name: str, checks: Callable[[], list[Check]]) -> list[Check]:
    """The checks; a record that cannot be read is their only finding."""
    try:
        return checks()
    except (UserError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        return [Check(name, "", [f"a record cannot be read: {type(error).__name__}: {error}"])]
