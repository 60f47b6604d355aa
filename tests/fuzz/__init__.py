"""Properties of bad inputs, for Hypothesis: few examples in the test suite, many and fresh ones in `make soak`.

A property takes one generated input, gives it to the functions of the command line, and fails with another exception than
UserError, a traceback, or something raw in what was written.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis.strategies import SearchStrategy

from cosmos_exp.errors import UserError

SLOWEST = 2.0  # seconds of CPU time in which an answer must be there


@dataclass(frozen=True)
class Property:
    """One property.

    check: fails for an input that is not handled. strategy: its inputs.
    examples: inputs that once were not handled; they are tried first.
    count: number of inputs in the test suite.
    """

    name: str
    check: Callable[[Any], None]
    strategy: SearchStrategy[Any]
    count: int
    examples: Sequence[Any] = ()

    def run(self, count: int | None = None, fresh_seed: int | None = None, shrink: bool = True) -> None:
        """Try `count` inputs; with a seed others than the ones of the test suite, which are always the same.

        Args:
            shrink: look for the smallest input that fails, which can take minutes.
        """
        chosen = settings(
            max_examples=count or self.count,
            derandomize=fresh_seed is None,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if shrink else [])],
            print_blob=False,
            report_multiple_bugs=False,
        )
        test = given(self.strategy)(self.check_of_its_own())
        for value in self.examples:
            test = example(value)(test)
        test = settings(chosen)(test)
        if fresh_seed is not None:
            test = seed(fresh_seed)(test)
        test()

    def check_of_its_own(self) -> Callable[[Any], None]:
        """`check` as a function that Hypothesis may mark."""

        def test(value: Any) -> None:
            self.check(value)

        return test


def answer(words: Sequence[object], most: float = SLOWEST) -> tuple[int, str]:
    """The exit code of a command and all that it printed. Any exception of it is a failure, as are raw control characters.

    Args:
        most: seconds of CPU time that it may take.
    """
    code, text, seconds = _once(words)
    if seconds > most:  # the first call of a command imports its modules
        code, text, seconds = _once(words)
    assert code in (0, 1, 2), f"exit code {code}"
    assert "Traceback (most recent call last)" not in text, text[-2000:]
    assert "\x1b" not in text, f"a raw escape: {text[-500:]!r}"
    assert code == 0 or text.strip(), "an error without a word"
    assert seconds < most, f"{seconds:.1f} s for an answer: {text[-500:]}"
    return code, text


def _once(words: Sequence[object]) -> tuple[int, str, float]:
    from cosmos_exp.cli import main

    said, argv, began = io.StringIO(), sys.argv, time.process_time()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            code = main([str(w) for w in words])
    except SystemExit as leave:
        code = int(leave.code or 0)
    finally:
        sys.argv = argv
    return code, said.getvalue(), time.process_time() - began


def check_named(file: Path, error: UserError) -> None:
    """Fail if an error does not say which file is wrong."""
    assert str(file) in str(error), f"the file is not named: {error}"
