"""Sweeps by arms: the plan, the choice of each arm's values, both phases resumed, and what the report says of them."""

import math
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
from conftest import SMALL, wait_until
from wandb_file import sent

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.paths import sweeps_dir
from cosmos_exp.config.record import save_config
from cosmos_exp.errors import UserError
from cosmos_exp.files import file_sha256, read_json, read_json_lines, write_json_lines
from cosmos_exp.report.comparisons import pairs_of
from cosmos_exp.report.study import load_study
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.selection import choose_point
from cosmos_exp.sweep.plan import read_plan, truncated_alpha
from cosmos_exp.sweep.running import run_unfinished
from cosmos_exp.sweep.runs import SweepRun
from cosmos_exp.sweep.tuning import planned_runs, write_record

TEXT = """
defaults: [config, _self_]
name: mine
data: {test_pairs: 1, selection_pairs: 2}
sweep:
  arms:
    base: {adapter: none}
    lora-r4: {adapter: lora, adapter.rank: 4}
    lora-r8: {adapter: lora, rank: 8}
    cut: {truncate: {from: lora-r8, rank: [2, 4]}}
  tune:
    grid: {training.learning_rate: [0.001, 0.002, 0.004]}
    by: word_side
    overrides: {training.max_steps: 3}
  seeds: [0, 1]
"""


@pytest.fixture
def plan_of(tmp_path):
    def plan(*overrides, text=TEXT):
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        return read_plan(file, overrides, tmp_path)

    return plan


def finish(run):
    """What a finished run leaves of its configuration and state."""
    run.folder.path.mkdir(parents=True, exist_ok=True)
    save_config(run.config, run.folder.config)
    run.folder.update_manifest(stages={"evaluate": {"config_hash": stage_hash(run.config, "evaluate")}})
    run.folder.set_status("done", "record")


def fake_tuning(plan, scores):
    """Finished tuning runs with the given mean word_side score on two scenes."""
    for tuning in plan.tuning:
        finish(tuning.run)
        score, rows = scores[tuning.arm, tuning.values["training.learning_rate"]], []
        for name, offset in (("s0", -0.1), ("s1", 0.1)):
            row = {"sample": name, "seed": 0, "prompt": "p", "video": f"{name}__seed0.mp4", "detail": {}}
            rows.append(row | {"measure": "word_side", "value": score + offset})
        write_json_lines(tuning.run.folder.scores, rows)
        tuning.run.folder.update_manifest(data={"scenes": {"s0": "a", "s1": "b"}})


def test_the_plan_tunes_each_trained_arm_on_selection_prompts_with_other_seeds(plan_of):
    plan = plan_of()
    assert [t.run.name for t in plan.tuning] == [
        f"tune/{arm}-learning_rate{rate}" for arm in ("lora-r4", "lora-r8") for rate in (0.001, 0.002, 0.004)
    ]
    for tuning in plan.tuning:
        config = tuning.run.config
        assert (config.generation.split, config.seed, config.training.max_steps) == ("selection", 100, 3)
        assert config.data.split_seed == 0  # both phases hold out the same data
    now = planned_runs(plan)
    assert (list(now.tests), now.waiting) == (["base"], ["lora-r4", "lora-r8", "cut-r2", "cut-r4"])
    assert replace(plan, tested=False).test_runs({}) == {}  # cosmos-exp sweep --tune
    own = plan_of("sweep.tune.grids={lora-r8:{training.learning_rate:[0.01]}}").tuning
    assert [t.values["training.learning_rate"] for t in own] == [0.001, 0.002, 0.004, 0.01]
    by_loss = plan_of("sweep.tune.by=validation_loss", "data.validation_videos=1").tuning[0].run.config
    assert by_loss.generation.split == "none"


def test_each_arm_is_tested_and_reported_at_its_own_best_value(plan_of):
    plan = plan_of()
    best = {"lora-r4": 0.004, "lora-r8": 0.002}
    fake_tuning(plan, {(a, r): -abs(math.log2(r / best[a])) for a in best for r in (0.001, 0.002, 0.004)})
    now = planned_runs(plan)
    assert {a: c.chosen for a, c in now.choices.items()} == {a: {"training.learning_rate": r} for a, r in best.items()}
    assert now.choices["lora-r4"].edges == ["training.learning_rate"]  # the largest that was tried
    assert now.choices["lora-r8"].edges == []
    stems = ["lora-r4-learning_rate0.004"] + [f"{arm}-learning_rate0.002" for arm in ("lora-r8", "cut-r2", "cut-r4")]
    names = [r.name for r in now.runs if not r.name.startswith("tune/")]
    assert names == ["base", *(stem + end for stem in stems for end in ("", "-seed1"))]
    cut = now.tests["cut-r2"][1].config
    assert (cut.adapter.rank, cut.adapter.alpha) == (2, 2.0)
    assert cut.adapter.truncate_from == "../lora-r8-learning_rate0.002-seed1"
    assert now.tests["lora-r4"][0].config.generation.split == "test"

    write_record(plan, now)
    for runs in now.tests.values():
        for run in runs:
            finish(run)
    chosen = plan.folder / "lora-r4-learning_rate0.004"  # and one tested before another rate was added to the grid
    shutil.copytree(chosen, plan.folder / "lora-r4-learning_rate0.001")
    study = load_study(plan.folder)
    assert study.arms["runs"].to_dict() == {"base": 1, "lora-r4": 2, "lora-r8": 2, "cut-r2": 2, "cut-r4": 2}
    assert (study.runs["phase"] == "tune").sum() == len(plan.tuning)
    first = study.shown_runs.reset_index().groupby("arm")["run"].first()
    pairs = pairs_of(study.arms, {arm: study.records[run] for arm, run in first.items()})
    assert ("lora-r4", "lora-r8") in pairs  # different rates, but both are tuned
    assert ("lora-r4", "cut-r4") in pairs  # trained and truncated at one rank
    points = study.tunings[0].points
    row = points[points["chosen"]].set_index("arm").loc["lora-r4"]
    assert (row["training.learning_rate"], row["score"]) == (0.004, pytest.approx(0.0))
    assert any("at the edge of the grid" in note for note in study.notes)

    more = plan_of("sweep.tune.grid={training.learning_rate:[0.001,0.002,0.004,0.008]}")
    assert [t.run.state() for t in more.tuning].count("missing") == 2  # a rate more: one run per arm


def test_the_most_cautious_value_within_a_standard_error_of_the_best_is_chosen():
    """Golden values by hand: paired differences to the best have mean 0.5 or 0.1, and a standard error of 0.16."""
    noise = np.array([-0.4, 0.0, 0.4, 0.0])  # standard deviation (ddof 1) 0.3266, standard error 0.1633
    worse, close, best = (dict(enumerate(values)) for values in (3.5 + noise, 3.9 + noise, np.full(4, 4.0)))
    assert choose_point([worse, close, best], 1) == 2
    assert choose_point([worse, close, best], 1, "one_standard_error") == 1
    assert choose_point([worse, best], 1, "one_standard_error") == 1
    assert choose_point([{k: -v for k, v in p.items()} for p in (worse, close, best)], -1, "one_standard_error") == 1
    assert choose_point([{}, best, best], 1) == 1
    assert choose_point([{}, {}], 1) is None
    assert choose_point([{"a": 1.0}, {"b": 2.0}], 1, "one_standard_error") == 1  # no scene in common


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("by: word_side", "by: beauty", "sweep.tune.by=beauty: nothing to optimise. Choose one of"),
        ("by: word_side", "grids: {cut-r2: {}}", "sweep.tune.grids.cut-r2: no arm that is tuned. Name one of lora-r4,"),
        ("by: word_side", "grids: {lora-r4: {seed: [1]}}", "sweep.tune.grids.lora-r4: seed is not in sweep.tune.grid"),
        ("rank: [2, 4]}", "rank: [16]}", "truncate.rank=16: must be a number from 1 to 8"),
        ("training.max_steps: 3", "data.split_seed: 1", "sweep.tune: data.split_seed: data, prompts, seeds and judge"),
    ],
)
def test_a_wrong_plan_is_refused_by_its_key(plan_of, old, new, said):
    assert old in TEXT
    with pytest.raises(UserError) as error:
        plan_of(text=TEXT.replace(old, new, 1))
    assert said in str(error.value)


def test_a_product_of_values_can_be_tuned_too(tmp_path, plan_of):
    with pytest.raises(UserError, match="several values"):
        plan_of("seed=0,1")
    words = ["sweep.tune.grid={training.learning_rate:[0.001]}", "sweep.seeds=[0,1]"]
    plan = read_plan(sweeps_dir() / "lora_vs_dora.yaml", words, tmp_path)
    assert [a.name for a in plan.arms] == ["base", "lora-r8", "lora-r32", "dora-r8", "dora-r32"]
    assert len(plan.tuning) == 4


def test_truncation_keeps_the_scale():
    for scaling in ("standard", "rslora"):
        config = compose_config(["adapter.rank=16", "adapter.alpha=24", f"adapter.scaling={scaling}"]).adapter
        alpha = truncated_alpha(config, 4)
        power = 0.5 if scaling == "rslora" else 1.0
        assert alpha / 4**power == pytest.approx(24 / 16**power)


RUNNING = """
defaults: [config, _self_]
name: mine
sweep:
  arms:
    base: {adapter: none}
    lora-r4: {adapter: lora, adapter.rank: 4}
    cut: {truncate: {from: lora-r4, rank: [1]}}
  tune:
    grid: {training.learning_rate: [0.001, 0.01]}
    by: word_side
  seeds: [1]
tracking: {mode: offline}
"""


def test_a_run_that_a_killed_sweep_still_holds_is_resumed_by_the_same_command(small_config, tmp_path, monkeypatch):
    """A killed sweep's run has a minute to write its checkpoint. Resumed meanwhile, it would be left for a third call."""
    runs = [SweepRun(name, RunFolder(tmp_path / name), (), small_config()) for name in ("a", "b")]
    held, other = runs
    held.folder.path.mkdir(parents=True)
    held.folder.set_status("interrupted", "train")  # it says so before it lets go of the folder
    lock, started = held.folder.lock(), []

    def start(runs, missing):
        started.append([r.name for r in missing])
        for run in missing:
            finish(run)

    assert held.state() == "running"
    monkeypatch.setattr("cosmos_exp.sweep.running.time.sleep", lambda seconds: lock.release())
    for _ in range(2):
        run_unfinished(runs, start)
    assert started == [[other.name], [held.name]]


def test_both_phases_of_a_killed_sweep_are_finished_by_the_same_command(start, tmp_path, monkeypatch, answered):
    (tmp_path / "mine.yaml").write_text(RUNNING)
    sweep, log = tmp_path / "outputs" / "sweeps" / "mine", tmp_path / "log.txt"
    words = ["sweep", "mine.yaml", *SMALL[:-1], "training.max_steps=6", "training.epochs=9", "data.selection_pairs=1"]
    words = [w.replace("measures.words=false", "measures.words=true") for w in words] + ["generation.num_steps=1"]
    first, second = (RunFolder(sweep / "tune" / f"lora-r4-learning_rate{rate}") for rate in (0.001, 0.01))
    child = start(*words, log=log, cwd=tmp_path)
    wait_until(lambda: len(read_json_lines(second.train_log)) >= 3 or child.poll() is not None)
    child.kill()
    assert child.wait(60) == -signal.SIGKILL
    wait_until(lambda: not second.is_locked())  # kill -9 of the sweep ends its run too
    assert second.status["state"] in ("interrupted", "running")

    monkeypatch.chdir(tmp_path)
    answered(words, 0)
    assert [len(run.manifest["starts"]) for run in (first, second)] == [1, 2]
    assert [row["step"] for row in read_json_lines(second.train_log)] == list(range(1, 7))
    record = read_json(sweep / "sweep.json")
    assert [(a["name"], len(a["runs"])) for a in record["arms"]] == [("base", 1), ("lora-r4", 1), ("cut-r1", 1)]
    best = max(record["tuning"]["choices"][0]["points"], key=lambda p: p["score"])
    assert record["arms"][1]["tuned"] == best["values"]
    trained, cut = (RunFolder(sweep / record["arms"][i]["runs"][0]) for i in (1, 2))
    assert cut.read(cut.metrics)["training"]["truncated_from"] == file_sha256(trained.adapter_file)
    assert not cut.train_log.exists()
    data = trained.manifest["data"]
    assert set(data["test"]).isdisjoint(data["selection"])
    assert {r["sample"] for r in read_json_lines(second.scores)} == set(data["selection"])
    assert {r["sample"] for r in read_json_lines(cut.scores)} == set(data["test"])
    assert "training.learning_rate, chosen by word_side on the selection" in (sweep / "report.md").read_text()
    answered(["report", sweep, "--verify"], 0)
    check_dashboard(sweep)
    cut.update_manifest(wandb_lost=["the adapter: OSError: no space"])
    answered([*words, "--list"], 0, f"{cut.path.name}: wandb lost the adapter: OSError: no space")


def check_dashboard(sweep):
    """What wandb has of each run of a sweep through the fork server, read back.

    One process that imports wandb for all runs would take the table, the videos and the adapter from all but the first.
    """
    phases = []
    for status in sweep.rglob("status.json"):
        found = sent(status.parent)
        own, tuning = found["config"], "tuning/" * (found["job_type"] == "tune")
        phases.append(own["phase"])
        assert (found["group"], own["sweep"]) == ("mine", "mine")
        assert found["table"]["data"], found["name"]
        assert any(key.startswith(f"{tuning}videos/") for key in found["history"]), found["name"]
        assert ("adapter" in found["artifacts"]) == (own["adapter_kind"] == "lora")
        assert (own["rank"] is None) == (own["arm"] == "base")
        assert own["arm"] in (("base", "lora-r4", "cut-r1") if not tuning else (status.parent.name,))
        run = RunFolder(status.parent)
        assert run.manifest["wandb_lost"] == []
        mean = run.read(run.metrics)["measures"]["word_side"]["mean"]
        assert found["summary"].get("word_side") == (None if tuning else mean)  # tuning is in no chart of the test
    assert sorted(phases) == ["test"] * 3 + ["tune"] * 2
