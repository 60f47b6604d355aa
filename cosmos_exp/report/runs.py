"""The runs of a study: their records, each read once, and their arms (runs of one configuration with several training seeds)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cosmos_exp.config.arms import arm_entry, arm_name
from cosmos_exp.config.record import load_config, plain_config
from cosmos_exp.config.schema import Adapter, Config
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, json_sha256
from cosmos_exp.run_folder import REFERENCES, RunFolder
from cosmos_exp.run_folder.records import damaged, read_rows
from cosmos_exp.statistics.scores import ScoreRow, read_scores
from cosmos_exp.text import plain_json

RECIPE = ("adapter", "model", "data", "training", "generation", "approximate")  # groups that can change a score


@dataclass
class Run:
    """One run folder.

    Attributes:
        arm: The name of its arm, see `name_arms`.
        entry: Its arm's entry in the sweep's record; empty for other runs.
    """

    folder: RunFolder
    arm: str = ""
    entry: JsonObject = field(default_factory=dict)

    @cached_property
    def config(self) -> JsonObject:
        """The configuration as it is on disk."""
        content = plain_config(self.folder.config)
        return plain_json(content)

    @cached_property
    def settings(self) -> Config:
        """The configuration, checked."""
        return load_config(self.folder.config)

    @cached_property
    def manifest(self) -> JsonObject:
        return self.folder.manifest

    @cached_property
    def status(self) -> JsonObject:
        return self.folder.status

    @cached_property
    def metrics(self) -> JsonObject:
        return self.folder.read(self.folder.metrics)

    @cached_property
    def scores(self) -> list[ScoreRow]:
        return read_scores(self.folder.scores)

    @cached_property
    def reference_scores(self) -> dict[str, list[ScoreRow]]:
        """The scores of the recordings (`real`) and of the held first frames (`frozen`)."""
        rows = {}
        for kind in REFERENCES:
            rows[kind] = read_scores(self.folder.reference_scores(kind))
        return rows

    def check(self) -> None:
        """Read every record of the run.

        Raises:
            UserError: the first that is damaged.
        """
        _ = self.status, self.manifest, self.metrics, self.config, self.scores, self.reference_scores
        for file in (self.folder.train_log, self.folder.validation_log):
            read_rows(file)
        for file in (self.folder.config, self.folder.scores):
            is_whole = not file.is_file() or file.read_bytes().endswith(b"\n")
            if not is_whole and (self.finished or file == self.folder.config):
                raise damaged(file, "it is cut short")

    def group(self, name: str) -> JsonObject:
        """A group of the configuration; empty if it has none."""
        return self.config.get(name) or {}

    @property
    def finished(self) -> bool:
        return self.status.get("state") == "done"

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 0))

    @property
    def phase(self) -> str:
        """tune for a run of the first phase of a sweep, which has no test videos, else test."""
        if self.group("generation").get("split", "test") == "test":
            return "test"
        return "tune"

    @property
    def adapter(self) -> JsonObject:
        return self.group("adapter")

    @property
    def is_base(self) -> bool:
        return self.adapter.get("kind") == "none"

    @property
    def scenes(self) -> dict[str, str]:
        """The scene of each prompt: prompts with the same first frame have the same one."""
        return self.manifest.get("data", {}).get("scenes") or {}

    @property
    def training(self) -> JsonObject:
        """The training summary of metrics.json."""
        return self.metrics.get("training", {})

    @property
    def recipe(self) -> str:
        """Fingerprint of everything in the configuration that can change a result, except the training seed."""
        content = {group: self.config.get(group) for group in RECIPE}
        if self.is_base:
            content["adapter"] = content["training"] = None
        elif self.adapter.get("truncate_from"):  # the folder of the same arm with this run's seed
            content["adapter"] = self.adapter | {"truncate_from": True}
        return json_sha256([content, self.entry.get("name")])[:12]


def find_runs(folder: Path) -> list[RunFolder]:
    """All run folders at or below a folder, by path.

    Raises:
        UserError: There are none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Give a run folder, or a folder with runs.")
    folders = [RunFolder(path.parent) for path in sorted(folder.rglob("status.json"))]
    if not folders:
        raise UserError(f"{folder}: no runs found (a run folder contains config.yaml and status.json)")
    return folders


def read_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """The runs at or below a folder whose records can all be read, with their arms, and a sentence for each other one.

    A run that the record of a sweep does not list (a test of an earlier choice) is left out.

    Raises:
        UserError: There are no runs, or none can be read.
    """
    runs, damages = [], []
    for run in map(Run, find_runs(folder)):
        try:
            if not run.folder.config.exists():
                raise damaged(run.folder.config, "it is missing")
            entry = arm_entry(run.folder.path, folder)
            if entry is None and run.phase == "test":
                continue
            run.entry = entry or {}
            run.check()
            runs.append(run)
        except UserError as error:
            reason = str(error).replace(f"{run.folder.path}/", "")
            damages.append(f"{run.folder.path.name}: not reported: {reason}")
    if not runs:
        raise UserError("\n".join(damages) or f"{folder}: no runs found")
    name_arms(runs)
    return runs, damages


def name_arms(runs: Sequence[Run]) -> None:
    """Give each run the name of its arm (`arm_name`). Names of arms with different recipes are unique."""
    names: dict[str, str] = {}
    for run in sorted(
        runs, key=lambda run: run.phase
    ):  # test, tune: an arm keeps its name, whatever its tuning runs are called
        path = run.folder.path
        name = arm_name(path, run.entry, Adapter.model_construct(**run.adapter))
        if name in names.values():
            name = f"{name} ({path.parent.name}/{path.name})"
        run.arm = names.setdefault(run.recipe, name)
