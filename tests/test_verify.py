"""`cosmos-exp report --verify`: every way of changing a result after the fact is found, and an intact report passes."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from claimed_sweep import config_of, plan, write_run, write_sweep
from conftest import ROOT

from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.record import load_config
from cosmos_exp.experiment.scored import record_videos
from cosmos_exp.files import append_json_line, file_sha256, json_sha256, write_json, write_json_lines
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.report.runs import find_runs
from cosmos_exp.report.study import load_study
from cosmos_exp.report.tables import mismatches, report_texts
from cosmos_exp.report.verify import verify
from cosmos_exp.run_folder import ADAPTER_NAME, RunFolder
from cosmos_exp.statistics.scores import read_scores
from cosmos_exp.sweep.frozen_claims import freeze_claims

CLAIMS = ["instruction: lora-r8 > base", "physics: lora-r8 > base by 0.5"]
SEEDS = {"base": [0], "lora-r8": [0, 1]}


def write_texts(folder, title="mine"):
    """The report without its pictures."""
    for name, text in report_texts(load_study(folder, title)).items():
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
    return {check.name: check.findings for check in verify(folder, **options) if check.findings}


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_an_intact_sweep_passes_also_under_another_name(sweep, cli, capsys):
    assert cli("report", sweep, "--verify") == 0
    out = capsys.readouterr().out
    assert "FAILED" not in out
    assert out.split() == [
        w for name in ("claims", "runs", "hashes", "metrics", "tuning", "report") for w in ("ok", name)
    ]


def test_a_published_archive_is_verified_as_its_folder(cli, capsys):
    archive = ROOT / "docs" / "demo.tar.xz"
    assert cli("report", archive, "--verify", "--without-videos") == 0, (
        f"write its report again: python benchmarks/publish_records.py {archive} {archive}"
    )
    assert "ok      report" in capsys.readouterr().out
    assert cli("report", archive) == 2
    assert "add --verify" in capsys.readouterr().err


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
    assert "report.json: " in out
    assert "scores.csv: not what the runs give: lora-r8,lora-r8" in out or "more" in out


def test_an_edited_score_is_found_also_after_the_report_was_written_again(sweep):
    rows = read_scores(sweep / "lora-r8" / "scores.jsonl")
    rows[0]["value"] += 0.001
    write_json_lines(sweep / "lora-r8" / "scores.jsonl", rows)
    write_texts(sweep)
    assert set(findings(sweep)) == {"hashes", "metrics"}


def test_a_replaced_and_a_removed_video_are_found(sweep, cli, capsys):
    (sweep / "lora-r8" / "videos" / "p1__seed0.mp4").write_bytes(b"another")
    (sweep / "base" / "videos" / "p2__seed0.mp4").unlink()
    assert cli("report", sweep, "--verify") == 1
    out = capsys.readouterr().out
    assert "lora-r8/videos/p1__seed0.mp4: changed since the evaluation" in out
    assert "base/videos/p2__seed0.mp4: missing" in out
    shutil.rmtree(sweep / "lora-r8" / "videos")
    assert cli("report", sweep, "--verify", "--without-videos") == 0
    assert "The videos were not checked" in capsys.readouterr().out


def test_claims_changed_by_hand_are_found(sweep):
    edit(sweep / "claims.json", "by 0.5", "by 0.1")
    found = findings(sweep)
    assert found["claims"] == ["claims.json: changed by hand (its hash does not fit its content)"]
    assert "report" in found


def test_claims_changed_after_the_first_score_are_found(sweep):
    freeze_claims(sweep, plan(CLAIMS[:1], seeds=SEEDS))
    write_texts(sweep)
    (words,) = findings(sweep)["claims"]
    assert "after the first score" in words


def test_claims_whose_date_was_changed_with_a_new_hash_do_not_fit_the_report(sweep):
    record = json.loads((sweep / "claims.json").read_text())
    record["frozen"] = "2020-01-01T00:00:00+00:00"
    write_json(
        sweep / "claims.json", record | {"sha256": json_sha256({k: v for k, v in record.items() if k != "sha256"})}
    )
    found = findings(sweep)
    assert "claims" not in found  # somebody who rewrites every hash and the report is not found
    assert any("claims_heading" in f for f in found["report"])


def test_removed_claims_are_found(sweep):
    (sweep / "claims.json").unlink()
    assert "missing, although this sweep has claims" in findings(sweep)["claims"][0]


@pytest.mark.parametrize("name", ["lora-r8-seed1", "base"])
def test_a_removed_run_is_found_also_after_the_report_was_written_again(sweep, name):
    shutil.rmtree(sweep / name)
    assert f"{name}: missing" in findings(sweep)["runs"]
    write_texts(sweep)
    if name != "base":  # the base has no training seeds
        assert "Planned but not done: lora-r8, training seeds 1." in " ".join(findings(sweep)["runs"])


def test_an_unfinished_and_an_unplanned_run_are_found(sweep):
    RunFolder(sweep / "lora-r8").set_status("failed", "generate", "out of memory")
    write_run(sweep / "lora-r8-seed5", "lora-r8", 5)
    found = findings(sweep)["runs"]
    assert "lora-r8: failed, not done" in found
    assert "Not planned: lora-r8, training seeds 5." in " ".join(found)


@pytest.mark.parametrize("name", ["report.md", "table.tex", "scores.csv"])
def test_an_edited_text_is_found(sweep, name):
    file = sweep / name
    line = next(x for x in file.read_text().splitlines() if "lora-r8" in x and "3" in x)
    edit(file, line, line.replace("3", "4", 1))
    found = findings(sweep)
    assert set(found) == {"report"}
    assert [f.split(":")[0] for f in found["report"]] == [name]


def test_an_edited_number_of_report_json_is_found(sweep):
    report = json.loads((sweep / "report.json").read_text())
    report["differences"][0]["p"] *= 1 + 1e-6
    write_json(sweep / "report.json", report)
    (words,) = findings(sweep)["report"]
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
        set_config(sweep / run, "margins", instruction=0.1)
    write_texts(sweep)
    assert findings(sweep)["runs"] == ["The margin of instruction is 0.1 here, but 0.25 was frozen."]


def test_training_on_test_samples_is_found(sweep):
    RunFolder(sweep / "lora-r8").update_manifest(data={"train": ["x", "p1"]})
    assert findings(sweep)["runs"] == ["lora-r8: 1 samples, e.g. p1, are of the training and of the test"]


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
    names = {"base": ["base"], "lora-r8": ["lora-r8", "lora-r8-seed1"]}
    own = {"base": {}, "lora-r8": choice["chosen"]}
    arms = [{"name": n, "runs": r, "values": {}, "tuned": own[n], "truncated_from": None} for n, r in names.items()]
    for run in names["lora-r8"]:
        set_rate(sweep / run, 0.003)
    write_json(sweep / "sweep.json", {"arms": arms, "seeds": [0, 1], "claims": CLAIMS, "tuning": tuning})
    write_texts(sweep)
    return sweep


def set_config(run, group=None, **keys):
    """Change keys of a run's configuration, and the hash that the run recorded of it."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    (config[group] if group else config).update(keys)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    folder = RunFolder(run)
    own = stage_hash(load_config(folder.config))
    folder.update_manifest(config_hash=own)


def set_rate(run, rate):
    set_config(run, "training", learning_rate=rate)


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


def test_claims_that_differ_from_sweep_json_are_found(tuned):
    edit(tuned / "sweep.json", "by 0.5", "by 0.1")
    assert "claims.json: other claims than sweep.json" in findings(tuned)["claims"]


def test_runs_without_hashes_cannot_be_verified_and_say_so(sweep):
    manifest = json.loads((sweep / "base" / "manifest.json").read_text())
    manifest.pop("evaluated")
    write_json(sweep / "base" / "manifest.json", manifest)
    assert findings(sweep)["hashes"] == [
        "base/videos/p0__seed0.mp4: no recorded hash, like 8 videos of this run",
        "base/scores.jsonl: no recorded hash",
    ]


def test_records_that_cannot_be_read_are_findings(sweep):
    (sweep / "base" / "metrics.json").write_text("{")
    (sweep / "report.json").unlink()
    found = findings(sweep)
    assert "base: not reported: metrics.json: " in found["runs"][0]
    assert found["report"][0] == "report.json: missing, or not JSON. `cosmos-exp report` writes it."


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
    """Its seed is edited; verdicts need three runs, so this would make a recipe of two."""
    copy = shutil.copytree(sweep / "lora-r8-seed1", sweep / "lora-r8-seed2")
    set_config(copy, seed=2)
    study = load_study(sweep)
    assert [run.seed for run in study.runs_of("lora-r8")] == [0, 1]
    assert set(study.differences["arm_runs"]) == {2}
    assert any(
        "lora-r8-seed2 holds the same training as lora-r8-seed1, so lora-r8 counts it once" in n for n in study.notes
    )
    words = "lora-r8-seed2: the same training as lora-r8-seed1: it is not another training run"
    assert words in findings(sweep)["runs"]
    rows = [{"step": 1, "loss": 0.505}]  # too few losses to compare
    write_json_lines(copy / "train_log.jsonl", rows)
    assert load_study(sweep).runs.loc["lora-r8-seed2", "copy_of"] == ""
    for run in (copy, sweep / "lora-r8"):
        RunFolder(run).update_manifest(trained={"files": {ADAPTER_NAME: "1"}})
    assert load_study(sweep).runs.loc["lora-r8-seed2", "copy_of"] == "lora-r8"


def test_changed_logs_and_adapters_are_found(sweep):
    append_json_line(sweep / "lora-r8" / "train_log.jsonl", {"step": 21, "loss": 0.1})
    run = RunFolder(sweep / "lora-r8-seed1")
    run.update_manifest(trained={"files": run.manifest["trained"]["files"] | {ADAPTER_NAME: "0" * 64}})
    assert findings(sweep)["hashes"] == [
        "lora-r8/train_log.jsonl: changed since the training",
        f"lora-r8-seed1/{ADAPTER_NAME}: missing",
    ]
    assert f"lora-r8-seed1/{ADAPTER_NAME}: missing" not in findings(sweep, videos=False)["hashes"]  # not published
    (sweep / "lora-r8-seed1" / "train_log.jsonl").unlink()
    assert "lora-r8-seed1/train_log.jsonl: missing" in findings(sweep)["hashes"]


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


def test_a_video_keeps_the_hash_that_it_had_at_its_first_score(evaluation):
    run, first = evaluation.run, evaluation.record()["videos"]
    assert first == {f"videos/{n}__seed0.mp4": file_sha256(run.video(n, 0)) for n in ("a", "b")}
    evaluation.score("a")  # then the process is killed, and both videos are replaced
    for name in ("a", "b"):
        run.video(name, 0).write_bytes(b"new")
    assert evaluation.record()["videos"] == first
    run.scores.unlink()  # scored anew
    assert evaluation.record()["videos"]["videos/a__seed0.mp4"] == file_sha256(run.video("a", 0))


def test_a_second_scoring_is_recorded(evaluation):
    evaluation.record()
    evaluation.score("a")
    evaluation.run.scores.rename(evaluation.run.path / "scores-abc.jsonl")  # as evaluate does under another judge
    found = evaluation.record()
    assert list(found["again"]) == ["scores-abc.jsonl"]


def test_probes_are_recorded_too(evaluation):
    run, probe = evaluation.run, evaluation.run.video("a~left", 0)
    probe.write_bytes(b"probe")
    assert evaluation.record([probe])["videos"]["videos/a~left__seed0.mp4"] == file_sha256(probe)
    row = {"sample": "a", "seed": 0, "prompt": None, "video": "a__seed0.mp4", "measure": "word_effect", "value": 1.0}
    write_json_lines(run.scores, [row | {"detail": {"other": "a~left"}}])
    before = file_sha256(probe)
    probe.write_bytes(b"another")
    assert evaluation.record([probe])["videos"]["videos/a~left__seed0.mp4"] == before
