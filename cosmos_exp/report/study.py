"""Run folders as one study: variants (runs that differ in their seed alone), their scores, and what may be compared."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from cosmos_exp.config.measures import BETTER, MARGINS
from cosmos_exp.errors import UserError
from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.comparisons import Difference, difference, holm


@dataclass
class Run:
    """One run folder, read once."""

    folder: RunFolder

    @cached_property
    def config(self) -> dict[str, Any]:
        return yaml.safe_load(self.folder.config.read_text(encoding="utf-8")) or {}

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return self.folder.read(self.folder.manifest_file)

    @cached_property
    def status(self) -> dict[str, Any]:
        return self.folder.read(self.folder.status_file)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        return self.folder.read(self.folder.metrics)

    @cached_property
    def scores(self) -> list[dict[str, Any]]:
        return read_json_lines(self.folder.scores)

    @property
    def done(self) -> bool:
        return self.status.get("state") == "done"

    @property
    def seed(self) -> int:
        return self.config.get("seed", 0)

    @property
    def is_base(self) -> bool:
        return self.config.get("adapter", {}).get("kind") == "none"


@dataclass
class Variant:
    """Runs of one configuration under several training seeds."""

    name: str
    runs: list[Run] = field(default_factory=list)

    @property
    def adapter(self) -> dict[str, Any]:
        return self.runs[0].config.get("adapter", {})

    @property
    def is_base(self) -> bool:
        return self.runs[0].is_base

    @property
    def done(self) -> list[Run]:
        return [r for r in self.runs if r.done]

    def rows(self) -> list[dict[str, Any]]:
        """All scores of the finished runs; each carries its training seed as `run_seed`."""
        return [row | {"run_seed": r.seed} for r in self.done for row in r.scores]

    def values(self, measure: str) -> dict[tuple[str, Any], float | None]:
        """{(prompt, (generation seed, training seed)): value}."""
        return {(r["sample"], (r["seed"], r["run_seed"])): r["value"] for r in self.rows() if r["measure"] == measure}

    def training(self, name: str) -> list[float]:
        """A figure of the training summary, one a finished run that has it."""
        values = [r.metrics.get("training", {}).get(name) for r in self.done]
        return [float(v) for v in values if v is not None]


def margins_of(all_variants: list[Variant]) -> dict[str, float]:
    """The margins that the runs' configurations set, the strictest where they differ; the defaults for older runs."""
    found: dict[str, float] = {}
    for run in (r for v in all_variants for r in v.runs):
        for measure, margin in (run.config.get("margins") or MARGINS).items():
            found[measure] = min(margin, found.get(measure, margin))
    return found


def _print(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _identity(config: dict[str, Any]) -> str:
    """Everything of a configuration that can change a result, its seed aside."""
    keys = ("adapter", "model", "data", "training", "generation", "approximate")
    content = {k: config.get(k) for k in keys}
    if (config.get("adapter") or {}).get("kind") == "none":
        content["adapter"] = content["training"] = None
    return _print(content)


def variants(folders: list[RunFolder]) -> list[Variant]:
    """The folders' variants: the base first, then by kind, rank and name. Names are unique."""
    found: dict[str, Variant] = {}
    for folder in folders:
        run = Run(folder)
        found.setdefault(_identity(run.config), Variant(_name(run))).runs.append(run)
    taken: dict[str, int] = {}
    for variant in found.values():
        variant.runs.sort(key=lambda r: (r.seed, str(r.folder.path)))
        taken[variant.name] = taken.get(variant.name, 0) + 1
        if taken[variant.name] > 1:
            variant.name = (
                f"{variant.name} ({variant.runs[0].folder.path.parent.name}/{variant.runs[0].folder.path.name})"
            )

    def order(v: Variant) -> tuple:
        return (not v.is_base, str(v.adapter.get("kind")), v.adapter.get("rank", 0), v.name)

    return sorted(found.values(), key=order)


def _name(run: Run) -> str:
    """A study's runs have names; others are called by their adapter."""
    if run.folder.path.parent.parent.name == "sweeps" or run.folder.path.name.startswith(("base", "lora-r", "dora-r")):
        return re.sub(r"-seed\d+(?=-|$)", "", run.folder.path.name)
    adapter = run.config.get("adapter", {})
    return "base" if run.is_base else f"{adapter.get('kind')}-r{adapter.get('rank')}"


# --- comparing ---------------------------------------------------------------------------------------------------
def why_not_comparable(a: Variant, b: Variant) -> str | None:
    """Why two variants' scores must not be compared; None when they may be."""
    first, second = a.done[0], b.done[0]

    def test_set(run: Run) -> Any:
        return run.manifest.get("data", {}).get("test"), sorted(
            {(r["sample"], r["prompt"]) for r in run.scores}, key=str
        )

    def generation(run: Run) -> Any:
        return {k: v for k, v in run.config.get("generation", {}).items() if k not in ("merge_adapter", "fps", "crf")}

    def judge(run: Run) -> Any:
        names = {(r["measure"], (r.get("detail") or {}).get("judge")) for r in run.scores}
        settings = {
            k: v for k, v in run.config.get("judge", {}).items() if k not in ("batch", "timeout", "retries", "url")
        }
        return sorted((n for n in names if n[1]), key=str), settings

    checks = {
        "test sets": test_set,
        "generation settings": generation,
        "judges": judge,
        "Sampson settings": lambda r: r.config.get("sampson"),
        "base models": lambda r: r.manifest.get("model", {}).get("fingerprints"),
    }
    for words, look in checks.items():
        if _print(look(first)) != _print(look(second)):
            return f"{a.name} and {b.name} have different {words}"
    return None


def check_comparable(all_variants: list[Variant]) -> None:
    """Raise UserError naming the first two finished variants that must not stand in one table of differences."""
    done = [v for v in all_variants if v.done]
    for other in done[1:]:
        why = why_not_comparable(done[0], other)
        if why:
            raise UserError(f"{why}: their scores cannot be compared. Report each by itself, or run them alike.")


def measures_of(all_variants: list[Variant]) -> list[str]:
    """The measures that some variant has, in the order of tables."""
    there = {r["measure"] for v in all_variants for run in v.done for r in run.scores}
    return [m for m in BETTER if m in there] + sorted(there - set(BETTER))


def claims(all_variants: list[Variant]) -> list[tuple[Variant, Variant]]:
    """The pairs that a study is made for: base and each; LoRA and DoRA of one rank; the lowest and highest rank of a kind."""
    done = [v for v in all_variants if v.done]
    pairs = [(a, b) for a in done if a.is_base for b in done if not b.is_base]
    adapted = [v for v in done if not v.is_base]

    def rest(v: Variant, *without: str) -> str:
        config = v.runs[0].config
        return _print(
            {k: config.get(k) for k in ("data", "training", "model")}
            | {"adapter": {k: x for k, x in v.adapter.items() if k not in (*without, "alpha")}}
        )

    for i, a in enumerate(adapted):
        for b in adapted[i + 1 :]:
            kinds = {a.adapter.get("kind"), b.adapter.get("kind")}
            if kinds == {"lora", "dora"} and rest(a, "kind") == rest(b, "kind"):
                pairs.append((a, b) if a.adapter.get("kind") == "lora" else (b, a))
    for kind in ("lora", "dora"):
        own = [v for v in adapted if v.adapter.get("kind") == kind and v.adapter.get("alpha") == v.adapter.get("rank")]
        own = [v for v in own if rest(v, "rank") == rest(own[0], "rank")]
        ends = sorted(own, key=lambda v: v.adapter.get("rank", 0))
        if len({v.adapter.get("rank") for v in ends}) > 1:
            pairs.append((ends[0], ends[-1]))
    return pairs


def differences(all_variants: list[Variant], margins: dict[str, float]) -> list[Difference]:
    """Every claim under every measure; Holm over the claims of one measure."""
    pairs = claims(all_variants)
    out: list[Difference] = []
    for measure in measures_of(all_variants):
        if BETTER.get(measure, 1) == 0:
            continue
        family = [
            difference(a.name, b.name, measure, _matched(a, b, measure), b.values(measure), margins.get(measure))
            for a, b in pairs
        ]
        out += holm([d for d in family if d.n])
    return out


def _matched(a: Variant, b: Variant, measure: str) -> dict[tuple[str, Any], float | None]:
    """a's values, keyed as b's are: the base has no training seed, so it stands against each of b's."""
    values = a.values(measure)
    if not a.is_base:
        return values
    seeds = {r.seed for r in b.done}
    own = {(sample, generation): value for (sample, (generation, _)), value in values.items()}
    return {(s, (g, seed)): value for (s, g), value in own.items() for seed in seeds}


def find_runs(folder: Path) -> list[RunFolder]:
    """All run folders at or below a folder, by path.

    Raises:
        UserError: there is none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    found = sorted(p.parent for p in folder.rglob("status.json") if (p.parent / "config.yaml").is_file())
    if not found:
        raise UserError(f"{folder}: no runs there (a run folder holds config.yaml and status.json)")
    return [RunFolder(p) for p in found]
