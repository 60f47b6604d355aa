"""`cosmos-exp report --verify`: every way of changing a result after the fact is found, and an intact report passes."""

import json
import shutil
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import yaml
from claimed_sweep import config_of, plan, write_run, write_sweep
from conftest import ROOT

from cosmos_exp.experiment.scored import record_videos
from cosmos_exp.files import append_json_line, file_sha256, write_json, write_json_lines
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.report.runs import Run
from cosmos_exp.report.study import load_study
from cosmos_exp.report.tables import report_texts
from cosmos_exp.report.tuning import point_score
from cosmos_exp.report.verify import mismatches, verify
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
    return {name: wrong for name, wrong in verify(folder, **options).items() if wrong}


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_an_intact_sweep_passes_also_under_another_name(sweep, cli, capsys, monkeypatch):
    monkeypatch.chdir(sweep.parent)
    assert cli("report", sweep.name, "--verify") == 0
    checks = ("claims", "runs", "hashes", "metrics", "tuning", "report")
    assert capsys.readouterr().out.split() == [word for name in checks for word in ("ok", name)]


def test_a_published_archive_is_verified_as_its_folder(cli, capsys):
    archive = ROOT / "docs" / "demo.tar.xz"
    assert cli("report", archive, "--verify", "--without-videos") == 0, (
        f"write its report again: python benchmarks/publish_records.py {archive} {archive}"
    )
    assert "ok      report" in capsys.readouterr().out
    assert cli("report", archive) == 2
    assert "add --verify" in capsys.readouterr().err


def test_an_edited_score_is_found_also_after_the_report_was_written_again(sweep, cli, capsys):
    rows = read_scores(sweep / "lora-r8" / "scores.jsonl")
    rows[0]["value"] += 0.001
    write_json_lines(sweep / "lora-r8" / "scores.jsonl", rows)
    assert cli("report", sweep, "--verify") == 1
    out = capsys.readouterr().out
    assert "lora-r8/scores.jsonl: changed since the evaluation" in out
    assert "lora-r8/metrics.json: measures." in out
    assert "report.json: " in out
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


def test_changed_and_removed_claims_are_found(sweep):
    frozen = (sweep / "claims.json").read_text()
    edit(sweep / "claims.json", "by 0.5", "by 0.1")
    assert findings(sweep)["claims"] == ["claims.json: changed by hand (its hash does not fit its content)"]
    (sweep / "claims.json").unlink()
    assert "missing, although this sweep has claims" in findings(sweep)["claims"][0]
    (sweep / "claims.json").write_text(frozen)
    freeze_claims(sweep, plan(CLAIMS[:1], seeds=SEEDS))
    write_texts(sweep)
    (words,) = findings(sweep)["claims"]
    assert "after the first score" in words


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
    assert words.startswith("report.json: .differences.0.p: ")
    report["differences"][0]["p"] /= (1 + 1e-6) * (1 + 1e-11)  # less than the tolerance
    report["versions"]["numpy"] = "another"
    write_json(sweep / "report.json", report)
    assert findings(sweep) == {}


def test_numbers_are_compared_to_nine_digits():
    for old, new in (
        ([1.0], [1.0 + 1e-8]),
        ({"a": 1}, {"b": 1}),
        ({"a": None}, {"a": 0.0}),
        ([10**400], [1.0]),
        ([1], [1, 2]),
    ):
        assert list(mismatches(old, new))


def test_edited_means_and_losses_are_found(sweep):
    edit(sweep / "base" / "metrics.json", '"train_loss": 0.505', '"train_loss": 0.405')
    edit(sweep / "base" / "metrics.json", '"videos": 8', '"videos": 80')
    found = " ".join(findings(sweep)["metrics"])
    assert "base/metrics.json: training.train_loss: 0.405 in the file, 0.505" in found
    assert ".videos: 80 in the file, 8 recomputed" in found


@pytest.fixture
def tuned(sweep):
    """The sweep with two tuning runs of lora-r8, of which the second is better; sweep.json says so."""
    points = []
    for k, rate in enumerate((0.001, 0.003)):
        name = f"tune/lora-r8-learning_rate{rate}"
        write_run(sweep / name, "lora-r8", 100 + k, shift=0.2 * k)
        set_config(sweep / name, seed=100)
        set_config(sweep / name, "training", learning_rate=rate)
        set_config(sweep / name, "generation", split="selection")
        values = {"training.learning_rate": rate}
        score = point_score([Run(RunFolder(sweep / name))], "instruction")
        points.append({"values": values, "runs": [name], **asdict(score)})
    choice = {"arm": "lora-r8", "points": points, "chosen": points[1]["values"], "edges": []}
    tuning = {"by": "instruction", "grid": {"training.learning_rate": []}, "seeds": [100], "choices": [choice]}
    arms = [{"name": "base", "runs": ["base"], "tuned": {}}]
    arms.append({"name": "lora-r8", "runs": ["lora-r8", "lora-r8-seed1"], "tuned": choice["chosen"]})
    for run in arms[1]["runs"]:
        set_config(sweep / run, "training", learning_rate=0.003)
    write_json(sweep / "sweep.json", {"arms": arms, "seeds": [0, 1], "claims": CLAIMS, "tuning": tuning})
    write_texts(sweep)
    return sweep


def set_config(run, group=None, **keys):
    """Change keys of a run's configuration."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    (config[group] if group else config).update(keys)
    (run / "config.yaml").write_text(yaml.safe_dump(config))


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
    assert "lora-r8 at {'training.learning_rate': 0.003}: .score: " in wrong
    assert chosen.endswith(
        "{'training.learning_rate': 0.001} was chosen, the rule gives {'training.learning_rate': 0.003}"
    )
    shutil.rmtree(tuned / "lora-r8-seed1")
    assert "lora-r8-seed1: missing" in findings(tuned)["runs"]


def test_runs_without_hashes_cannot_be_verified_and_say_so(sweep):
    manifest = json.loads((sweep / "base" / "manifest.json").read_text())
    manifest.pop("evaluated")
    write_json(sweep / "base" / "manifest.json", manifest)
    videos, scores = findings(sweep)["hashes"]
    assert videos == "base/videos/p0__seed0.mp4: no recorded hash, like 8 videos of this run"
    assert scores == "base/scores.jsonl: no recorded hash"


def test_records_that_cannot_be_read_are_findings(sweep):
    (sweep / "base" / "metrics.json").write_text("{")
    (sweep / "report.json").unlink()
    found = findings(sweep)
    assert "base: not reported: metrics.json: " in found["runs"][0]
    assert found["report"][0].startswith("report.json: missing")


def test_a_record_of_somebody_else_reads_no_other_file_and_prints_no_escape(sweep, tmp_path, cli, capsys):
    (tmp_path / "secret").write_text("x")
    run = RunFolder(sweep / "base")
    run.update_manifest(evaluated={"videos": {"../../../secret": file_sha256(tmp_path / "secret")}})
    edit(sweep / "claims.json", "by 0.5", "by 0.5\\u001b[2J")
    assert cli("report", sweep, "--verify") == 1
    out = capsys.readouterr().out
    assert "'../../../secret': leaves" in out
    assert "\x1b" not in out


def test_changed_logs_and_adapters_are_found(sweep):
    append_json_line(sweep / "lora-r8" / "train_log.jsonl", {"step": 21, "loss": 0.1})
    run = RunFolder(sweep / "lora-r8-seed1")
    run.update_manifest(trained={"files": run.manifest["trained"]["files"] | {ADAPTER_NAME: "0" * 64}})
    assert findings(sweep)["hashes"] == [
        "lora-r8/train_log.jsonl: changed since the training",
        f"lora-r8-seed1/{ADAPTER_NAME}: missing",
    ]
    assert f"lora-r8-seed1/{ADAPTER_NAME}: missing" not in findings(sweep, videos=False)["hashes"]  # not published


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


def test_probes_are_recorded_too(evaluation):
    run, probe = evaluation.run, evaluation.run.video("a~left", 0)
    probe.write_bytes(b"probe")
    assert evaluation.record([probe])["videos"]["videos/a~left__seed0.mp4"] == file_sha256(probe)
    row = {"sample": "a", "seed": 0, "prompt": None, "video": "a__seed0.mp4", "measure": "word_effect", "value": 1.0}
    write_json_lines(run.scores, [row | {"detail": {"other": "a~left"}}])
    before = file_sha256(probe)
    probe.write_bytes(b"another")
    assert evaluation.record([probe])["videos"]["videos/a~left__seed0.mp4"] == before
