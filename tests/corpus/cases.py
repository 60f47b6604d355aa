"""A row of a table of bad inputs, and the check that the command line answers it with a clear error.

CASES = (Case("name", make, 2, ("data.path", "Set data.path")),)

@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_corpus(case, tmp_path, cli, capfd):
    check(case, tmp_path, cli, capfd)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Case:
    """One bad input.

    name: of the case, unique in its table.
    make: writes the bad input under an empty folder and returns the words after `cosmos-exp`.
    code: expected exit code; 2 for a wrong request, 1 for a run or check that failed, 0 where it is answered safely.
    words: what the output must hold: the file or key, what is wrong, how to fix it.
    absent: what neither the output nor a file under the folder may hold, e.g. a secret.
    """

    name: str
    make: Callable[[Path], list[str]]
    code: int
    words: tuple[str, ...]
    absent: tuple[str, ...] = ()


def check(case: Case, folder: Path, cli: Callable[..., int], capture: pytest.CaptureFixture[str]) -> str:
    """Run a case. Fails on another exit code, a missing word, a traceback, or a word that must be absent.

    Args:
        folder: empty; the input is made there.
        cli: the fixture of conftest.py.
        capture: capsys, or capfd if the command starts processes.

    Returns:
        Standard output and standard error together.
    """
    argv = case.make(folder)
    given = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capture.readouterr()
    try:
        code = cli(*argv)
    except Exception as error:  # a user would see its traceback
        raise AssertionError(f"{case.name}: cosmos-exp {' '.join(map(str, argv))} raised {error!r}") from error
    out, err = capture.readouterr()
    check_answer(case, folder, given, code, out + err)
    return out + err


def check_answer(case: Case, folder: Path, given: Mapping[Path, bytes], code: int, text: str) -> None:
    """The checks of `check`, for a command that has been run.

    Args:
        given: the files of the bad input with their content, as they were before.
        code: exit code.
        text: standard output and standard error together.
    """
    assert "Traceback (most recent call last)" not in text, f"{case.name}: a traceback:\n{text[-3000:]}"
    assert code == case.code, f"{case.name}: exit code {code}, expected {case.code}:\n{text[-2000:]}"
    missing = [w for w in case.words if w not in text]
    assert not missing, f"{case.name}: the output does not hold {missing}:\n{text[-2000:]}"
    for path in (p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if content == given.get(path):
            continue  # the bad input itself
        found = [w for w in case.absent if w.encode() in content]
        assert not found, f"{case.name}: {path} holds {found}"
    assert not (found := [w for w in case.absent if w in text]), (
        f"{case.name}: the output holds {found}:\n{text[-2000:]}"
    )
