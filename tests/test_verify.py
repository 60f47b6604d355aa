"""`cosmos-exp report --verify`: every way of changing a result after the fact is found, and an intact report passes."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from claimed_sweep import config_of, plan, write_run, write_sweep

from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.record import load_config
from cosmos_exp.experiment.scored import record_scores, record_videos
from cosmos_exp.files import append_json_line, file_sha256, json_sha256, read_json, write_json, write_json_lines
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.report.frozen_claims import arm_hash, record_hash
from cosmos_exp.report.numbers import mismatches
from cosmos_exp.report.variants import find_runs
from cosmos_exp.report.verify import verify
from cosmos_exp.report.writing import report_content
from cosmos_exp.run_folder import ADAPTER_NAME, RunFolder, evaluated_hash
from cosmos_exp.statistics.scores import read_scores
from cosmos_exp.sweep.frozen_claims import freeze_claims

CLAIMS = ["instruction: lora-r8 > base", "physics: lora-r8 > base by 0.5"]
SEEDS = {"base": [0], "lora-r8": [0, 1]}


def write_texts(folder, title="mine"):
    """The report without its pictures."""
    for name, text in report_content(folder, title, []).texts.items():
        (folder / name).write_text(text)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = write_sweep(tmp_path_factory.mktemp("outputs") / "sweeps" / "mine", CLAIMS, SEEDS)
    write_texts(folder)
    return folder


@pytest.fixture
def sweep(original, tmp_path):
    """A copy to tamper with, in a folder of another name."""
    return shutil.copytree(original, tmp_path / "sweeps" / "copy")


def findings(folder, **options):
    """The findings by check."""
    return {check.name: check.findings for check in verify(folder, **options) if not check.ok}


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_an_intact_sweep_passes_also_under_another_name(sweep, cli, capsys):
    assert cli("report", sweep, "--verify") == 0
    out = capsys.readouterr().out
    assert "FAILED" not in out
    assert "ok      claims      2 claims, frozen" in out
    assert "24 videos" in out


def test_a_relative_folder_is_read_too(original, monkeypatch):
    monkeypatch.chdir(original.parent)
    assert [r.path for r in find_runs(Path(original.name))] == [r.path for r in find_runs(original)]


def test_an_edited_score_is_found(sweep, cli, capsys):
    rows = read_scores(sweep / "lora-r8" / "scores.jsonl")
    rows[0]["value"] += 0.001
    write_json_lines(sweep / "lora-r8" / "scores.jsonl", rows)
    assert cli("report", sweep, "--verify") == 1
    out = capsys.readouterr().out
    assert "lora-r8/scores.jsonl: changed since the evaluation" in out
    assert "lora-r8/metrics.json: measures." in out
    assert "report.json: claims.results[0].mean: " in out
    assert "scores.csv: in the file: " in out


def test_an_edited_score_is_found_also_after_the_report_was_written_again(sweep):
    rows = read_scores(sweep / "lora-r8" / "scores.jsonl")
    rows[0]["value"] += 0.001
    write_json_lines(sweep / "lora-r8" / "scores.jsonl", rows)
    write_texts(sweep)
    assert set(findings(sweep)) == {"scores", "metrics"}


def test_scores_that_were_swapped_between_two_runs_are_found(sweep):
    names = ("base", "lora-r8")
    runs = [RunFolder(sweep / name) for name in names]
    swapped = [run.manifest["evaluated"] for run in reversed(runs)]
    for name in ("scores.jsonl", "metrics.json", "videos"):
        (runs[0].path / name).rename(sweep / "aside")
        (runs[1].path / name).rename(runs[0].path / name)
        (sweep / "aside").rename(runs[1].path / name)
    for run, evaluated in zip(runs, swapped, strict=True):
        run.update_manifest(evaluated=evaluated)
    write_texts(sweep)
    another = "manifest.json: evaluated: the scores of a run with another configuration"
    assert findings(sweep)["scores"] == [f"{name}/{another}" for name in names]
    for run in runs:
        own = {"config_hash": stage_hash(load_config(run.config), "evaluate"), "adapter": None}
        run.update_manifest(evaluated={"run": own})
    assert [f.rpartition(": ")[2] for f in findings(sweep)["scores"]] == [
        "changed by hand (its hash does not fit its content)"
    ] * 2


def test_a_replaced_and_a_removed_video_are_found(sweep, cli, capsys):
    (sweep / "lora-r8" / "videos" / "p1__seed0.mp4").write_bytes(b"another")
    (sweep / "base" / "videos" / "p2__seed0.mp4").unlink()
    assert cli("report", sweep, "--verify") == 1
    out = capsys.readouterr().out
    assert "lora-r8/videos/p1__seed0.mp4: not the video that was scored" in out
    assert "base/videos/p2__seed0.mp4: missing" in out
    shutil.rmtree(sweep / "lora-r8" / "videos")
    assert cli("report", sweep, "--verify", "--without-videos") == 0
    assert "The videos were not checked" in capsys.readouterr().out


def test_claims_changed_by_hand_are_found(sweep):
    edit(sweep / "claims.json", "by 0.5", "by 0.1")
    found = findings(sweep)
    assert found["claims"] == ["claims.json: changed by hand (its hash does not fit its content)"]
    assert "numbers" in found


def test_claims_changed_after_the_first_score_are_found(sweep):
    freeze_claims(sweep, plan(CLAIMS[:1], seeds=SEEDS))
    write_texts(sweep)
    (words,) = findings(sweep)["claims"]
    assert "after the first score" in words
    assert f"`{CLAIMS[1]}` removed" in words


def test_claims_whose_date_was_changed_with_a_new_hash_do_not_fit_the_report(sweep):
    record = json.loads((sweep / "claims.json").read_text())
    record["frozen"] = "2020-01-01T00:00:00+00:00"
    write_json(sweep / "claims.json", record | {"sha256": record_hash(record)})
    found = findings(sweep)
    assert "claims" not in found  # somebody who rewrites every hash and the report is not found
    assert any("claims.sha256" in f for f in found["numbers"])


def test_removed_claims_are_found(sweep):
    (sweep / "claims.json").unlink()
    assert "missing, although this sweep has claims" in findings(sweep)["claims"][0]


@pytest.mark.parametrize("name", ["lora-r8-seed1", "base"])
def test_a_removed_run_is_found_also_after_the_report_was_written_again(sweep, name):
    shutil.rmtree(sweep / name)
    assert f"{name}: missing" in findings(sweep)["runs"]
    write_texts(sweep)
    arm, _, seed = name.partition("-seed")
    assert f"{arm}, training seed {seed or 0}: missing, but planned" in findings(sweep)["runs"]


def test_an_unfinished_and_an_unplanned_run_are_found(sweep):
    RunFolder(sweep / "lora-r8").set_status("failed", "generate", "out of memory")
    write_run(sweep / "lora-r8-seed5", "lora-r8", 5)
    found = findings(sweep)["runs"]
    assert "lora-r8: failed, not done" in found
    assert "lora-r8, training seed 5: not planned" in found


def test_another_configuration_and_other_prompts_than_planned_are_found(sweep):
    for seed in ("", "-seed1"):
        file = sweep / f"lora-r8{seed}" / "config.yaml"
        config = yaml.safe_load(file.read_text())
        config["training"]["learning_rate"] *= 2
        file.write_text(yaml.safe_dump(config))
    rows = read_scores(sweep / "base" / "scores.jsonl")
    write_json_lines(sweep / "base" / "scores.jsonl", [r for r in rows if r["sample"] != "p3"])
    found = " ".join(findings(sweep)["runs"])
    assert "lora-r8-seed1/config.yaml: another configuration than the frozen one" in found
    assert "base/config.yaml" not in found
    assert "base/scores.jsonl: no score of 1 frozen prompts and seeds, e.g. ('p3', 0)" in found


@pytest.mark.parametrize("name", ["report.md", "table.tex", "scores.csv"])
def test_an_edited_text_is_found(sweep, name):
    file = sweep / name
    line = next(x for x in file.read_text().splitlines() if "lora-r8" in x and "3" in x)
    edit(file, line, line.replace("3", "4", 1))
    found = findings(sweep)
    assert set(found) == {name}
    assert len(found[name]) == 2  # the line in the file, and the line as it should be


def test_an_edited_number_of_report_json_is_found(sweep):
    report = json.loads((sweep / "report.json").read_text())
    report["differences"][0]["p"] *= 1 + 1e-6
    write_json(sweep / "report.json", report)
    (words,) = findings(sweep)["numbers"]
    assert words.startswith("report.json: differences[0].p: ")
    report["differences"][0]["p"] /= (1 + 1e-6) * (1 + 1e-11)  # less than the tolerance
    report["versions"]["numpy"] = "another"
    write_json(sweep / "report.json", report)
    assert findings(sweep) == {}


def test_numbers_are_compared_to_nine_digits():
    assert list(mismatches({"a": [1.0, None]}, {"a": [1.0 + 1e-10, None]})) == []
    assert list(mismatches({"a": [1.0, True]}, {"a": [1.0 + 1e-8, True]})) == [
        "a[0]: 1.0 in the file, 1.00000001 recomputed"
    ]
    assert list(mismatches({"a": 1}, {"b": 1})) == ["a: only in the file", "b: only recomputed"]
    assert list(mismatches({"a": None}, {"a": 0.0})) == ["a: null in the file, 0.0 recomputed"]
    assert len(list(mismatches([10**400], [1.0]))) == 1  # found by `make soak`
    assert list(mismatches([1], [1, 2])) == [": [1] in the file, [1, 2] recomputed"]


def test_margins_that_are_not_the_frozen_ones_are_found(sweep):
    for run in ("base", "lora-r8", "lora-r8-seed1"):
        set_config(sweep / run, "margins", instruction=1.5)
    write_texts(sweep)
    assert findings(sweep)["runs"][0] == ("base/config.yaml: the margin of instruction is 1.5, but 0.25 was frozen")
    record = json.loads((sweep / "report.json").read_text())
    write_json(sweep / "report.json", record | {"margins": ["physics=2"]})
    assert "report.json: the margin physics=2 is not the frozen one (0.25)" in findings(sweep)["runs"]


def test_training_on_test_samples_and_another_base_are_found(sweep):
    RunFolder(sweep / "lora-r8").update_manifest(data={"train": ["x", "p1"]}, model={"fingerprints": {"vae": "a"}})
    RunFolder(sweep / "lora-r8-seed1").update_manifest(model={"fingerprints": {"vae": "b"}})
    assert findings(sweep)["runs"] == [
        "lora-r8/manifest.json: 1 samples, e.g. p1, are of the training and of the test",
        "lora-r8-seed1/manifest.json: other weights of the base (vae) than in lora-r8/manifest.json",
    ]


def test_an_edited_interval_is_found(sweep):
    record = json.loads((sweep / "base" / "metrics.json").read_text())
    record["measures"]["physics"] |= {"ci_low": 0, "ci_high": 0, "n": 0}
    write_json(sweep / "base" / "metrics.json", record)
    assert [f.split(": ")[1] for f in findings(sweep)["metrics"]] == [
        f"measures.physics.{k}" for k in ("ci_high", "ci_low", "n")
    ]


def test_edited_means_and_losses_are_found(sweep):
    edit(sweep / "base" / "metrics.json", '"train_loss": 0.505', '"train_loss": 0.405')
    edit(sweep / "base" / "metrics.json", '"videos": 8', '"videos": 80')
    found = " ".join(findings(sweep)["metrics"])
    assert "base/metrics.json: train_loss: 0.405 in the file, 0.505 recomputed from the log" in found
    assert ".videos: 80 in the file, 8 recomputed" in found


@pytest.fixture
def tuned(sweep):
    """The sweep with two tuning runs of lora-r8, of which the second is better; sweep.json says so."""
    points = []
    for k, rate in enumerate((0.001, 0.003)):
        name = f"tune/lora-r8-learning_rate{rate}"
        write_run(sweep / name, "lora-r8", 100 + k, shift=0.2 * k)
        set_config(sweep / name, seed=100)
        set_rate(sweep / name, rate)
        set_config(sweep / name, "generation", split="selection")
        scores = [r["value"] for r in read_scores(sweep / name / "scores.jsonl") if r["measure"] == "instruction"]
        values = {"training.learning_rate": rate}
        points.append(
            {
                "values": values,
                "score": sum(scores) / 8,
                "low": None,
                "high": None,
                "n": 8,
                "missing": 0,
                "runs": [name],
            }
        )
    choice = {"arm": "lora-r8", "points": points, "chosen": points[1]["values"], "edges": []}
    tuning = {
        "by": "instruction",
        "grid": {"training.learning_rate": [0.001, 0.003]},
        "seeds": [100],
        "choices": [choice],
    }
    freeze_tuning(sweep, {k: v for k, v in tuning.items() if k != "choices"})
    names = {"base": ["base"], "lora-r8": ["lora-r8", "lora-r8-seed1"]}
    own = {"base": {}, "lora-r8": choice["chosen"]}
    arms = [{"name": n, "runs": r, "values": {}, "tuned": own[n], "truncated_from": None} for n, r in names.items()]
    for run in names["lora-r8"]:
        set_rate(sweep / run, 0.003)
    write_json(sweep / "sweep.json", {"arms": arms, "seeds": [0, 1], "claims": CLAIMS, "tuning": tuning})
    write_texts(sweep)
    return sweep


def freeze_tuning(sweep, tuning):
    """Claims that were frozen with a tuning."""
    record = json.loads((sweep / "claims.json").read_text())
    record["content"]["tuning"] = tuning
    for name, arm in record["content"]["arms"].items():
        arm["config_hash"] = arm_hash(config_of(name), list((tuning or {}).get("grid", {})))
    write_json(sweep / "claims.json", record | {"sha256": record_hash(record)})


def set_config(run, group=None, **keys):
    """Change keys of a run's configuration, and the hash that the run recorded of it."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    (config[group] if group else config).update(keys)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    folder = RunFolder(run)
    own = stage_hash(load_config(folder.config))
    evaluated = folder.manifest["evaluated"] | {"run": {"config_hash": own, "adapter": None}}
    folder.update_manifest(config_hash=own, evaluated=evaluated | {"sha256": evaluated_hash(evaluated)})


def set_rate(run, rate):
    set_config(run, "training", learning_rate=rate)


def test_a_run_that_was_not_trained_at_the_chosen_value_is_found(tuned):
    set_rate(tuned / "lora-r8-seed1", 0.001)
    found = [f for own in findings(tuned).values() for f in own]
    assert any("lora-r8-seed1/config.yaml: training.learning_rate is 0.001, but 0.003 was chosen" in f for f in found)


def test_the_tuning_is_recomputed_from_its_runs(tuned):
    record = json.loads((tuned / "sweep.json").read_text())
    assert findings(tuned) == {}
    choice = record["tuning"]["choices"][0]
    choice["chosen"] = choice["points"][0]["values"]
    choice["points"][1]["score"] += 0.01
    write_json(tuned / "sweep.json", record)
    write_texts(tuned)
    wrong, chosen, *rest = findings(tuned)["tuning"]
    assert any("tuned is {'training.learning_rate': 0.003}" in r for r in rest)
    assert "lora-r8 at {'training.learning_rate': 0.003}.score: " in wrong
    assert chosen.endswith(
        "{'training.learning_rate': 0.001} was chosen, the rule gives {'training.learning_rate': 0.003}"
    )
    shutil.rmtree(tuned / "tune" / "lora-r8-learning_rate0.001")
    shutil.rmtree(tuned / "lora-r8-seed1")
    found = findings(tuned)
    assert "tune/lora-r8-learning_rate0.001 is missing" in found["tuning"][0]
    assert "lora-r8-seed1: missing" in found["runs"]


def test_a_point_of_the_tuning_that_was_left_out_or_trained_otherwise_is_found(tuned):
    record = json.loads((tuned / "sweep.json").read_text())
    first, second = (f"tune/lora-r8-learning_rate{rate}" for rate in (0.001, 0.003))
    record["tuning"]["choices"][0]["points"][1]["score"] = None
    write_json(tuned / "sweep.json", record)
    set_rate(tuned / first, 0.002)
    set_config(tuned / second, seed=7)
    set_config(tuned / second, "generation", split="test")
    found = " ".join(findings(tuned)["tuning"])
    assert ".score: null in the file, 3" in found
    assert f"{first}/config.yaml: training.learning_rate is 0.002, but it is a run at 0.001" in found
    assert f"{second}/config.yaml: seed is 7, which is no tuning seed ([100])" in found
    assert f"{second}/config.yaml: a tuning run on test prompts" in found
    record["tuning"]["choices"][0]["points"] = record["tuning"]["choices"][0]["points"][:1]
    write_json(tuned / "sweep.json", record)
    set_config(tuned / second, "generation", split="selection")
    (check,) = (c for c in verify(tuned) if c.name == "tuning")
    assert check.notes == [f"1 tuning runs belong to no point of sweep.json, e.g. {second}"]


def test_a_point_that_was_tuned_after_the_test_is_found(tuned):
    """Somebody extends the grid when the test's result is known."""
    times = {"lora-r8": "12:00", "tune/lora-r8-learning_rate0.001": "11:00", "tune/lora-r8-learning_rate0.003": "12:01"}
    for name, time in times.items():
        manifest = read_json(tuned / name / "manifest.json")
        write_json(tuned / name / "manifest.json", manifest | {"starts": [f"2026-11-26T{time}:00+00:00"]})
    (found,) = findings(tuned)["tuning"]
    assert found == (
        "tune/lora-r8-learning_rate0.003/manifest.json: started 2026-11-26T12:01:00+00:00, "
        "after the test run lora-r8 (2026-11-26T12:00:00+00:00)"
    )


def change_tuning(sweep, change):
    """Change the tuning in sweep.json, then write the report again: claims.json stays."""
    record = json.loads((sweep / "sweep.json").read_text())
    change(record["tuning"], record)
    write_json(sweep / "sweep.json", record)
    write_texts(sweep)
    return findings(sweep).get("tuning", [])


def test_a_point_of_the_frozen_grid_that_was_dropped_with_its_runs_is_found(tuned):
    shutil.rmtree(tuned / "tune" / "lora-r8-learning_rate0.001")
    found = change_tuning(tuned, lambda tuning, _: tuning["choices"][0]["points"].pop(0))
    assert found == ["sweep.json: lora-r8: no point at {'training.learning_rate': 0.001}, unlike the grid"]

    found = change_tuning(tuned, lambda tuning, _: tuning["grid"].update({"training.learning_rate": [0.003]}))
    assert found == [
        "sweep.json: tuning.grid.training.learning_rate: [0.003] in the file, [0.001, 0.003] recomputed from claims.json"
    ]


def test_a_frozen_tuning_that_was_removed_is_found(tuned):
    shutil.rmtree(tuned / "tune")
    assert change_tuning(tuned, lambda _, record: record.pop("tuning")) == [
        "sweep.json: no tuning, but claims.json froze one"
    ]


def test_tuning_seeds_that_are_test_seeds_and_another_rule_are_found(tuned):
    def change(tuning, _):
        tuning.update(seeds=[100, 1], rule="one_standard_error", overrides={"training.max_steps": 3})

    found = " ".join(change_tuning(tuned, change))
    assert "tuning.seeds: [1] are test seeds, too" in found
    assert "tuning.seeds: [100, 1] in the file, [100] recomputed from claims.json" in found
    assert 'tuning.rule: "one_standard_error" in the file, "best" recomputed from claims.json' in found
    assert "tuning.overrides.training.max_steps: only in the file" in found
    assert "not one run per tuning seed" in found


def test_an_arm_that_was_tuned_again_after_its_test_is_found(tuned):
    """The point that was chosen goes, and the tests claim another value."""
    shutil.rmtree(tuned / "tune" / "lora-r8-learning_rate0.003")
    for run in ("lora-r8", "lora-r8-seed1"):
        set_rate(tuned / run, 0.001)

    def change(tuning, record):
        del tuning["choices"][0]["points"][1]
        tuning["choices"][0]["chosen"] = record["arms"][1]["tuned"] = {"training.learning_rate": 0.001}

    assert change_tuning(tuned, change) == [
        "sweep.json: lora-r8: no point at {'training.learning_rate': 0.003}, unlike the grid"
    ]


def test_a_tuning_that_older_claims_did_not_freeze_is_said_to_be_not_frozen(tuned):
    freeze_tuning(tuned, None)
    (check,) = (c for c in verify(tuned) if c.name == "tuning")
    assert check.ok
    assert check.notes == ["the tuning is not frozen (claims.json of an older version)"]


def test_claims_that_differ_from_sweep_json_are_found(tuned):
    edit(tuned / "sweep.json", "by 0.5", "by 0.1")
    assert "claims.json: other claims than sweep.json" in findings(tuned)["claims"]


def test_old_runs_cannot_be_verified_and_say_so(sweep, cli, capsys):
    manifest = json.loads((sweep / "base" / "manifest.json").read_text())
    manifest.pop("evaluated")
    write_json(sweep / "base" / "manifest.json", manifest)
    assert cli("report", sweep, "--verify") == 1
    out = capsys.readouterr().out
    assert "base/scores.jsonl: cannot be verified: made before hashes were recorded" in out
    assert "base: 8 videos, e.g. videos/p0__seed0.mp4: cannot be verified: made before" in out


def test_records_that_cannot_be_read_are_findings(sweep):
    (sweep / "base" / "metrics.json").write_text("{")
    (sweep / "report.json").unlink()
    found = findings(sweep)
    assert "a record cannot be read" in found["metrics"][0]
    assert found["report"] == ["report.json: missing. `cosmos-exp report` writes it."]


def test_a_record_of_somebody_else_reads_no_other_file_and_prints_no_escape(sweep, tmp_path, cli, capsys):
    (tmp_path / "secret").write_text("x")
    run = RunFolder(sweep / "base")
    run.update_manifest(evaluated={"videos": {"../../../secret": file_sha256(tmp_path / "secret")}})
    edit(sweep / "claims.json", "by 0.5", "by 0.5\\u001b[2J")
    assert cli("report", sweep, "--verify") == 1
    out = capsys.readouterr().out
    assert "'../../../secret': leaves" in out
    assert "\x1b" not in out


def test_a_copied_run_is_no_training_run(sweep):
    """Its seed is edited, and every hash that names it; verdicts need three runs, so this would make a recipe of two."""
    copy = shutil.copytree(sweep / "lora-r8-seed1", sweep / "lora-r8-seed2")
    set_config(copy, seed=2)
    content = report_content(sweep, "mine", [])
    (lora,) = (v for v in content.results.variants if v.name == "lora-r8")
    assert [r.seed for r in lora.done] == [0, 1]
    assert {d.runs for d in content.results.differences} == {(1, 2)}
    said = "copy/lora-r8-seed2 holds the same training as copy/lora-r8-seed1 (the same training losses), so lora-r8 counts it once"
    assert any(said in note for note in content.results.notes)
    words = (
        "lora-r8-seed2: the same training as lora-r8-seed1 (the same training losses): it is not another training run"
    )
    assert findings(sweep)["copies"] == [words]

    write_json_lines(
        copy / "train_log.jsonl", [{"step": 1, "loss": 0.505}]
    )  # evidence removed: the videos still show it
    assert "(8 of 8 videos are identical)" in findings(sweep)["copies"][0]
    RunFolder(copy).update_manifest(evaluated={"videos": {}}, trained={"files": {ADAPTER_NAME: "1"}})
    RunFolder(sweep / "base").update_manifest(trained={"files": {ADAPTER_NAME: "1"}})  # the base trains nothing
    assert "copies" not in findings(sweep)
    RunFolder(sweep / "lora-r8").update_manifest(trained={"files": {ADAPTER_NAME: "1"}})
    assert "lora-r8-seed2: the same training as lora-r8 (the same adapter)" in findings(sweep)["copies"][0]


def test_two_trainings_that_change_no_video_are_no_copies(sweep):
    runs = [RunFolder(sweep / name) for name in ("lora-r8", "lora-r8-seed1")]
    same = {"evaluated": {"videos": runs[0].manifest["evaluated"]["videos"]}}
    runs[1].update_manifest(**same)
    assert "(8 of 8 videos are identical)" in findings(sweep, videos=False)["copies"][0]
    for k, run in enumerate(runs):
        run.update_manifest(trained={"files": {ADAPTER_NAME: str(k)}})
    assert "copies" not in findings(sweep, videos=False)


def test_one_training_under_two_names_is_found(sweep):
    set_config(shutil.copytree(sweep / "lora-r8", sweep / "lora-r9"), "adapter", rank=9)
    assert findings(sweep)["copies"][0].startswith("lora-r9: the same training as lora-r8 ")
    set_config(sweep / "lora-r9", "adapter", rank=8)
    set_config(sweep / "lora-r9", "generation", guidance_scale=3.0)  # one training, generated from in two ways
    assert "copies" not in findings(sweep)


def test_changed_configurations_logs_and_adapters_are_found(sweep):
    edit(sweep / "base" / "config.yaml", "guidance_scale:", "guidance_scale: 9 #")
    append_json_line(sweep / "lora-r8" / "train_log.jsonl", {"step": 21, "loss": 0.1})
    run = RunFolder(sweep / "lora-r8-seed1")
    run.update_manifest(trained={"files": {ADAPTER_NAME: "0" * 64}}, stages={"train": {"config_hash": "another"}})
    found = findings(sweep)["records"]
    assert found == [
        "base/config.yaml: not the configuration that the run recorded (config_hash in manifest.json)",
        "lora-r8/train_log.jsonl: changed since the training",
        "lora-r8-seed1/config.yaml: the stage train ran with another configuration",
        f"lora-r8-seed1/{ADAPTER_NAME}: missing",
    ]
    assert f"lora-r8-seed1/{ADAPTER_NAME}: missing" not in findings(sweep, videos=False)["records"]  # not published
    (sweep / "lora-r8-seed1" / "train_log.jsonl").unlink()
    assert "lora-r8-seed1/train_log.jsonl: missing" in findings(sweep)["records"]


def test_files_of_older_runs_are_said_to_be_not_hashed(sweep):
    for name in ("lora-r8", "lora-r8-seed1"):
        manifest = json.loads((sweep / name / "manifest.json").read_text())
        manifest.pop("trained")
        manifest["data"].pop("scenes_sha256")
        write_json(sweep / name / "manifest.json", manifest)
    checks = {c.name: c for c in verify(sweep)}
    assert all(c.ok for c in checks.values())
    assert checks["records"].notes[0].startswith("adapter and logs of 2 runs, e.g. lora-r8: not hashed")
    assert checks["scenes"].notes == ["the scenes of 2 runs, e.g. lora-r8: not hashed (older runs)"]


def test_changed_scenes_are_found(sweep):
    run = RunFolder(sweep / "lora-r8")
    run.update_manifest(data={"scenes": run.manifest["data"]["scenes"] | {"p1": "p0"}})
    assert "lora-r8/manifest.json: data.scenes was changed by hand (its hash does not fit)" in findings(sweep)["scenes"]
    folders = [RunFolder(sweep / name) for name in ("base", "lora-r8", "lora-r8-seed1")]
    scenes = {f"p{k}": f"s{k}" for k in range(8)}
    for folder in folders:  # every record and hash
        folder.update_manifest(data={"scenes": scenes, "scenes_sha256": json_sha256(scenes)})
    assert "p0, p1, p2: other scenes than those frozen in claims.json" in findings(sweep)["scenes"][0]
    (sweep / "claims.json").unlink()
    assert "scenes" not in findings(sweep)
    frozen = {f"references/frozen/p{k}.mp4": str(k // 2) for k in range(8)}
    folders[0].update_manifest(evaluated={"videos": frozen})
    words = "base/manifest.json: data.scenes: p0 and p1 show the same first frame, but have different scenes"
    assert findings(sweep)["scenes"][0] == words
    folders[1].update_manifest(data={"scenes": scenes | {"p3": "s4"}})
    assert "lora-r8/manifest.json: p3: another scene than in base/manifest.json" in findings(sweep)["scenes"]


def test_without_a_report_or_with_wrong_options(sweep, tmp_path, cli, capsys):
    assert cli("report", tmp_path / "nothing", "--verify") == 2
    assert cli("report", sweep, "--verify", "--margin", "tse=1") == 2
    assert "with the margins that it was written with" in capsys.readouterr().err
    assert cli("report", sweep, "--without-videos") == 2


# What the evaluation records.


def context(folder):
    return SimpleNamespace(folder=RunFolder(folder), config=config_of("base"))


@pytest.fixture
def evaluation(tmp_path):
    """A run folder with two videos and a function that records them; `score` gives a video its first score."""
    run = RunFolder(tmp_path / "base")
    run.videos.mkdir(parents=True)
    own = [ScoredVideo(n, 0, None, run.video(n, 0)) for n in ("a", "b")]
    for video in own:
        video.path.write_bytes(video.sample.encode())

    def record(probes=()):
        record_videos(context(run.path), {run.scores: own}, probes)
        return run.manifest["evaluated"]

    def score(*names):
        rows = read_scores(run.scores)
        rows += [
            {"sample": n, "seed": 0, "prompt": None, "video": f"{n}__seed0.mp4", "measure": "tse", "value": 1.0}
            for n in names
        ]
        write_json_lines(run.scores, rows)

    return SimpleNamespace(run=run, record=record, score=score)


def end(run):
    """The end of the stage."""
    record_scores(context(run.path))
    run.update_manifest(stages={"evaluate": {"config_hash": stage_hash(config_of("base"), "evaluate")}})


def test_a_video_keeps_the_hash_that_it_had_at_its_first_score(evaluation):
    run, first = evaluation.run, evaluation.record()["videos"]
    assert first == {f"videos/{n}__seed0.mp4": file_sha256(run.video(n, 0)) for n in ("a", "b")}
    evaluation.score("a")  # then the process is killed, and both videos are replaced
    for name in ("a", "b"):
        run.video(name, 0).write_bytes(b"new")
    found = evaluation.record()["videos"]
    assert found["videos/a__seed0.mp4"] == first["videos/a__seed0.mp4"]
    assert found["videos/b__seed0.mp4"] == file_sha256(run.video("b", 0))
    run.scores.unlink()  # scored anew
    assert evaluation.record()["videos"]["videos/a__seed0.mp4"] == file_sha256(run.video("a", 0))


def test_videos_that_an_older_version_scored_get_no_hash(evaluation):
    evaluation.score("a", "b")
    found = evaluation.record()
    assert found["videos"] == {}
    assert "margins" not in found  # they are recorded before the first score


def test_the_margins_at_the_first_score_and_a_second_scoring_are_recorded(evaluation):
    first = evaluation.record()["margins"]
    assert first["values"]["instruction"] == 0.25
    evaluation.score("a")
    evaluation.run.scores.rename(evaluation.run.path / "scores-abc.jsonl")  # as evaluate does under another judge
    found = evaluation.record()
    assert found["margins"] == first
    assert list(found["again"]) == ["scores-abc.jsonl"]


def test_scores_changed_after_the_stage_are_recorded_when_it_runs_again(evaluation):
    evaluation.record()
    evaluation.score("a", "b")
    end(evaluation.run)
    assert evaluation.record()["edited"] == {}
    rows = read_scores(evaluation.run.scores)
    write_json_lines(evaluation.run.scores, [rows[0] | {"value": 0.5}, rows[1]])
    assert list(evaluation.record()["edited"]) == ["scores.jsonl"]
    end(evaluation.run)  # the new hash fits, but the edit stays on record
    assert list(evaluation.record()["edited"]) == ["scores.jsonl"]
    evaluation.run.scores.unlink()
    assert evaluation.record()["edited"] == {}


def test_probes_are_recorded_too(evaluation):
    run, probe = evaluation.run, evaluation.run.video("a~left", 0)
    probe.write_bytes(b"probe")
    assert evaluation.record([probe])["videos"]["videos/a~left__seed0.mp4"] == file_sha256(probe)
    row = {"sample": "a", "seed": 0, "prompt": None, "video": "a__seed0.mp4", "measure": "word_effect", "value": 1.0}
    write_json_lines(run.scores, [row | {"detail": {"other": "a~left"}}])
    before = file_sha256(probe)
    probe.write_bytes(b"another")
    assert evaluation.record([probe])["videos"]["videos/a~left__seed0.mp4"] == before
