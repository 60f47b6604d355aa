"""The measures that scores.jsonl may hold: in the order of tables, which way is better, and when two runs are alike."""

from __future__ import annotations

# 1: more is better, -1: less is, 0: neither.
BETTER = {"tse": -1, "tse_moving": -1, "static_share": 0, "cse": -1, "cse_moving": -1, "physics": 1, "instruction": 1}

# Differences too small to matter, in the measure's own unit (points, pixels).
MARGINS = {"physics": 0.25, "instruction": 0.25, "tse": 0.05, "tse_moving": 0.05, "cse": 0.05, "cse_moving": 0.05}
