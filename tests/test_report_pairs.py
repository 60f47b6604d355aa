"""Which runs a report may compare: the same frame size, frame rate and definition of the measures."""

from types import SimpleNamespace

import pytest

from cosmos_exp.report.pairs import why_not_comparable

NOW = {"repeats": 3, "gap": 1}


def variant(name, height=96, width=160, rate=8, played=8, sampson=None):
    config = {
        "data": {"height": height, "width": width, "fps": rate},
        "generation": {"num_steps": 4, "fps": played},
        "sampson": sampson or NOW,
    }
    return SimpleNamespace(name=name, done=[SimpleNamespace(config=config, manifest={}, scores=[], scenes={})])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"height": 48, "width": 80}, ["different frame sizes", "96x160", "48x80"]),
        ({"rate": 4}, ["different frame rates", "data.fps=8", "data.fps=4"]),
        ({"played": 16}, ["different frame rates", "generation.fps=8", "generation.fps=16"]),
        ({"sampson": {"repeats": 3, "gap": 2}}, ["different Sampson settings (gap: 1 and 2)"]),
        ({"sampson": {"gap": 1}}, ["different Sampson settings", "repeats: 3 and None", "older definition"]),
    ],
)
def test_runs_of_another_size_rate_or_definition_are_not_compared(changed, words):
    why = why_not_comparable(variant("a"), variant("b", **changed))
    for word in ("a and b", *words):
        assert word in why


def test_equal_runs_are_compared_also_two_old_ones():
    assert why_not_comparable(variant("a"), variant("b")) is None
    old = {"gap": 1}
    assert why_not_comparable(variant("a", sampson=old), variant("b", sampson=old)) is None
