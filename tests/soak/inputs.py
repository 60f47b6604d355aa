"""Bad inputs of tests/corpus at random, each also with further random damage to one of its files."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

from corpus.adapters import ADAPTERS
from corpus.cases import Case, check_answer
from corpus.data_cases import FILES, METADATA
from corpus.records import MARK, SECRET
from corpus.security import CODE, PATHS, PICKLES, SECRETS
from fuzz import answer

from cosmos_exp.files import JsonObject

TABLES = {
    "adapters": ADAPTERS,
    "data": METADATA + FILES,
    "code": CODE,
    "secrets": SECRETS,
    "paths": PATHS,
    "pickles": PICKLES,
}
ROWS = [(table, case) for table, cases in TABLES.items() for case in cases]
WITH_IMPORTS = 60.0  # seconds of CPU time for an answer: the first of a command imports torch
READS_ONLY = ("data", "report", "adapter", "sampson")  # a damaged file of these cannot start a run


class Inputs:
    """`case(seed)` is one row of the corpus, as it is or with damage."""

    def __init__(self) -> None:
        os.environ["CORPUS_TOKEN"] = SECRET

    def case(self, seed: int) -> JsonObject:
        draw = random.Random(seed)
        table, row = draw.choice(ROWS)
        found: JsonObject = {"seed": seed, "table": table, "row": row.name, "damaged": False}
        home, at = os.getcwd(), Path(tempfile.mkdtemp(prefix="soak-input-"))
        os.chdir(at)
        try:
            if draw.random() < 0.5:
                _as_it_is(row, at)
            else:
                found["damaged"] = _damaged(row, at, draw)
            assert not (at / MARK).exists(), "code of the input was run"
        except Exception as error:
            found["problems"] = [f"{type(error).__name__}: {str(error)[:2000]}"]
        except AssertionError as error:
            found["problems"] = [str(error)[:2000]]
        finally:
            os.chdir(home)
            shutil.rmtree(at, ignore_errors=True)
        return found


def _as_it_is(row: Case, at: Path) -> None:
    """The row as the test suite runs it."""
    words = row.make(at)
    given = {path: path.read_bytes() for path in at.rglob("*") if path.is_file()}
    code, text = answer(words, WITH_IMPORTS)
    check_answer(row, at, given, code, text)


def _damaged(row: Case, at: Path, draw: random.Random) -> bool:
    """The row with some bytes of one file changed: any exit code, but no traceback, no secret and nothing raw."""
    words = row.make(at)
    files = sorted(p for p in at.rglob("*") if p.is_file() and not p.is_symlink())
    if words[0] not in READS_ONLY or not files:
        return False
    path = draw.choice(files)
    content = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 5)):
        place = draw.randrange(len(content) + 1)
        content[place : place + draw.randint(0, 20)] = draw.randbytes(draw.randint(0, 20))
    path.write_bytes(content)
    _, text = answer(words, WITH_IMPORTS)
    assert SECRET not in text, "a secret is in the output"
    return True
