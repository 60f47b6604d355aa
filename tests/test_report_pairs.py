"""Which runs a report may compare: the same frame size, frame rate and definition of the measures."""

from types import SimpleNamespace

import pytest

from cosmos_exp.errors import UserError
from cosmos_exp.report.comparisons import check_comparable
from cosmos_exp.run_folder import RunFolder


def run(name, height=96, width=160, rate=8, played=8, sampson=None, scenes=None):
    config = {
        "data": {"height": height, "width": width, "fps": rate},
        "generation": {"num_steps": 4, "fps": played},
        "sampson": sampson or {"repeats": 3, "gap": 1},
    }
    return SimpleNamespace(folder=RunFolder(name), config=config, manifest={}, scores=[], scenes=scenes or {})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"height": 48, "width": 80}, ["different frame sizes", "96x160", "48x80"]),
        ({"rate": 4}, ["different frame rates", "data.fps=8", "data.fps=4"]),
        ({"played": 16}, ["different frame rates", "generation.fps=8", "generation.fps=16"]),
        ({"sampson": {"repeats": 3, "gap": 2}}, ["different Sampson settings (gap: 1 and 2)"]),
    ],
)
def test_runs_of_another_size_rate_or_definition_are_not_compared(changed, words):
    with pytest.raises(UserError) as error:
        check_comparable([run("a"), run("c"), run("b", **changed)])
    for word in ("a and b", *words):
        assert word in str(error.value)


def test_equal_runs_are_compared_and_other_first_frames_are_not():
    check_comparable([run("a"), run("b")])
    with pytest.raises(UserError, match="b has another first frame of p"):
        check_comparable([run("a", scenes={"p": "1"}), run("b", scenes={"p": "2"})])
