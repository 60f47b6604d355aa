"""The data set card: README.md with the header that the hub reads, and every figure in words."""

from __future__ import annotations

from huggingface_hub import DatasetCardData

from cosmos_exp.files import JsonObject
from cosmos_exp.report.formatting import markdown_table, number
from cosmos_exp.text import markdown, one_line

MOST_PROMPTS = 40  # rows of the table of prompts; trajectories.json lists all
MARKS = {1: "above chance", -1: "below chance", 0: ""}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
COLUMNS_TEXT = """The table of episodes (`meta/episodes/`) has these columns beside those of LeRobot:

| column | content |
| --- | --- |
| `source` | `generated`, or `real` for an original demonstration |
| `run`, `adapter`, `adapter_sha256` | the run, its adapter, and the hash of the adapter's file (`base`: no adapter) |
| `seed` | of the start noise |
| `prompt`, `sample` | the text that the model was given, and the name of the prompt or clip |
| `source_frame`, `source_frame_sha256`, `scene` | the first frame as the model saw it; prompts with one first frame are one scene |
| `scores/MEASURE` | the score of the episode by each measure and by the judge; empty where it is undefined |
| `video_sha256` | of the video file before it was put into a shard |
"""
USE = """```python
from lerobot.datasets.lerobot_dataset import LeRobotDataset

dataset = LeRobotDataset("local/{name}", root="{name}")
episodes = dataset.meta.episodes.to_pandas()
good = episodes[episodes["scores/instruction"] == 5]["episode_index"].tolist()
subset = LeRobotDataset("local/{name}", root="{name}", episodes=good)
```"""
LIMITS = """- These are videos of a model, not recordings. Objects may melt, move by themselves or pass through each other, also in episodes
  with good scores: a judge sees only what it looks for.
- The scores that chose the episodes are biased upwards in the chosen ones. Do not report them as the quality of the model.
- Prompts that come from the test of a run are no longer a test of anything that is trained on this set.
- The licences of the base model, of its adapter and of the data that they were trained on apply."""


def card(summary: JsonObject, name: str) -> str:
    """The card of a data set.

    Args:
        summary: content of trajectories.json.
        name: of the data set's folder.
    """
    parts = [
        f"# {_text(name)}: synthetic trajectories",
        _opening(summary),
        "![kept and dropped videos](contact_sheet.png)",
    ]
    parts += ["## How it was made", _recipe(summary), *map(_text, summary["notes"])]
    parts += ["## Yield", *_yields(summary)]
    words = "\n".join(f"- {_text(w)}" for w in summary["selection"]["words"])
    parts += ["## What the selection changed", words, _effects(summary)]
    parts += ["## Columns", COLUMNS_TEXT, "## Use", USE.format(name=one_line(name)), "## Limits", LIMITS]
    body = "\n\n".join(p.rstrip() for p in parts)
    return f"---\n{_header(summary, name)}\n---\n\n{body}\n"


def _header(summary: JsonObject, name: str) -> str:
    """The YAML that the hub reads."""
    episodes = summary["kept"] + summary["real"]
    size = next((text for limit, text in SIZES if episodes < limit), "100K<n<1M")
    data = DatasetCardData(
        pretty_name=name,
        task_categories=["robotics"],
        tags=["LeRobot", "synthetic", "world-model", "cosmos_exp"],
        size_categories=[size],
        configs=[{"config_name": "default", "data_files": "data/*/*.parquet"}],
    )
    return data.to_yaml()


def _opening(summary: JsonObject) -> str:
    runs = ", ".join(r["name"] + (f" ({r['adapter']})" if r["adapter"] != r["name"] else "") for r in summary["runs"])
    real = f" {summary['real']} original demonstrations come first; `source` marks them." if summary["real"] else ""
    actions = summary["actions"]
    acted = (
        f"`action` ({', '.join(actions['names'])}) was inferred from the pictures by an inverse dynamics model (sha256 "
        f"{actions['sha256'][:12]}); it was not measured."
        if actions
        else "**The set has no actions**: it holds videos and tasks only."
    )
    return (
        f"{summary['kept']} generated episode{'s' * (summary['kept'] != 1)}, chosen of {summary['made']} that the world model {_text(summary['model']['name'])} "
        f"made with the adapters of these runs: {_text(runs)}.{real} {_text(acted)} Format: LeRobot v3.0."
    )


def _recipe(summary: JsonObject) -> str:
    request, video = summary["request"], summary["video"]
    rule = []
    if request.get("keep"):
        rule.append(f"`{_code(request['keep'])}`")
    if request.get("best"):
        rule.append(f"the best {request['best']} of each prompt by `{_code(request['by'])}`")
    prompts = summary["prompts"]
    scenes = len({p["scene"] for p in prompts})
    chunks = summary.get("chunks")
    rollout = f", {chunks['count']} chunks of {chunks['frames']} frames each" if chunks else ""
    rows = [
        [
            "base model",
            f"{_text(summary['model']['source'])}, transformer {summary['model']['fingerprints']['transformer']}",
        ],
        ["adapters", ", ".join(f"{_text(r['name'])} ({r['adapter_sha256'][:12]})" for r in summary["runs"])],
        ["prompts", f"{len(prompts)} with {scenes} first frames"],
        ["seeds", _seeds(summary["seeds"])],
        [
            "video",
            f"{video['fps']:g} frames per second, {video['steps']} steps, guidance {video['guidance_scale']:g}{rollout}",
        ],
        ["judge", _text(summary["judge"])],
        ["kept", " and ".join(rule) or "everything"],
        ["target", str(request.get("target") or "none: all planned videos were made")],
    ]
    return markdown_table(["", ""], rows, left=2)


def _seeds(seeds: list[int]) -> str:
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds[:20])) + (" …" if len(seeds) > 20 else "")


def _yields(summary: JsonObject) -> list[str]:
    made, kept = summary["made"], summary["kept"]
    rows = [
        ["planned", str(summary["planned"]), ""],
        ["made", str(made), ""],
        ["**kept**", str(kept), f"{kept / made:.0%}"],
    ]
    rows += [[f"dropped: {_text(r)}", str(n), f"{n / made:.0%}"] for r, n in summary["dropped"].items()]
    parts = [markdown_table(["", "videos", "of made"], rows)]
    if len(summary["runs"]) > 1:
        rows = [[_text(r["name"]), r["adapter"], str(r["made"]), str(r["kept"])] for r in summary["runs"]]
        parts.append(markdown_table(["run", "adapter", "made", "kept"], rows, left=2))
    shown = summary["prompts"][:MOST_PROMPTS]
    rows = [[_text(p["sample"]), _text(p["prompt"]), str(p["made"]), str(p["kept"])] for p in shown]
    parts.append(markdown_table(["prompt", "text", "made", "kept"], rows, left=2))
    if len(shown) < len(summary["prompts"]):
        parts.append(f"The other {len(summary['prompts']) - len(shown)} prompts are in trajectories.json.")
    return parts


def _effects(summary: JsonObject) -> str:
    rows = []
    for e in summary["selection"]["effects"]:
        chance = "-" if e["low"] is None else f"{number(e['low'])} to {number(e['high'])}"
        rows.append([_text(e["name"]), number(e["made"]), number(e["kept"]), chance, MARKS[e["moved"]]])
    return markdown_table(["figure", "made", "kept", "95 % of random choices", ""], rows)


def _text(text: object) -> str:
    """Text of a record for a line or a cell."""
    return markdown(one_line(text)).replace("|", "\\|")


def _code(text: object) -> str:
    """Text for code within a cell. Nothing in code is a tag, so nothing is escaped but what would end the code or the cell."""
    return one_line(text).replace("`", "'").replace("|", "\\|")
