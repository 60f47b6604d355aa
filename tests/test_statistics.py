"""Intervals and the run summary."""

import numpy as np

from cosmos_exp.report.statistics import mean_interval, summarize


def test_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.RandomState(0)
    hits = 0
    for trial in range(120):
        values = list(rng.normal(3, 1, 25))
        _, low, high = mean_interval([np.array([v]) for v in values], seed=trial)
        hits += low <= 3 <= high
    assert 0.88 <= hits / 120 <= 0.99


def test_missing_scores_are_counted_not_filled_in():
    def row(sample, seed, value):
        return {"sample": sample, "seed": seed, "measure": "physics", "value": value, "detail": {}}

    table = summarize([row("a", 0, 1), row("a", 1, 3), row("b", 0, 4), row("c", 0, None)])["physics"]
    assert (table["mean"], table["n"], table["videos"], table["missing"]) == (3.0, 2, 4, 1)
    assert summarize([row("a", 0, None)])["physics"]["mean"] is None
