"""`cosmos-exp report --verify`: every way of changing a result after the fact is found, and an intact report passes."""

import shutil
from dataclasses import asdict

import pytest
from claimed_sweep import plan, write_run, write_sweep
from conftest import ROOT

from cosmos_exp.experiment.scored import record_videos
from cosmos_exp.files import append_json_line, file_sha256, read_json, write_json, write_json_lines
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.report.runs import Run
from cosmos_exp.report.study import load_study
from cosmos_exp.report.tables import report_texts
from cosmos_exp.report.tuning import point_score
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
    return {name: wrong for name, wrong in verify(folder, **options).items() if wrong}


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_an_intact_sweep_passes_also_under_another_name(sweep, monkeypatch, answered):
    monkeypatch.chdir(sweep.parent)
    checks = ("claims", "runs", "hashes", "metrics", "tuning", "report")
    assert answered(["report", sweep.name, "--verify"], 0).split() == [word for name in checks for word in ("ok", name)]


def test_a_published_archive_is_verified_as_its_folder(answered):
    archive = ROOT / "docs" / "demo.tar.xz"
    # If it differs, write its report again: python benchmarks/publish_records.py docs/demo.tar.xz docs/demo.tar.xz
    answered(["report", archive, "--verify", "--without-videos"], 0, "ok      report")
    answered(["report", archive], 2, "add --verify")


def test_an_edited_score_is_found_also_after_the_report_was_written_again(sweep, answered):
    rows = read_scores(sweep / "lora-r8" / "scores.jsonl")
    rows[0]["value"] += 0.001
    write_json_lines(sweep / "lora-r8" / "scores.jsonl", rows)
    answered(["report", sweep, "--verify"], 1, "lora-r8/scores.jsonl: changed since the evaluation", "report.json: ")
    write_texts(sweep)
    assert set(findings(sweep)) == {"hashes", "metrics"}


def test_a_replaced_and_a_removed_video_are_found(sweep, answered):
    (sweep / "lora-r8" / "videos" / "p1__seed0.mp4").write_bytes(b"another")
    (sweep / "base" / "videos" / "p2__seed0.mp4").unlink()
    assert findings(sweep)["hashes"] == [
        "base/videos/p2__seed0.mp4: missing",
        "lora-r8/videos/p1__seed0.mp4: changed since the evaluation",
    ]
    shutil.rmtree(sweep / "lora-r8" / "videos")
    answered(["report", sweep, "--verify", "--without-videos"], 0, "The videos were not checked")


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


def test_a_removed_an_unfinished_and_an_unplanned_run_are_found(sweep):
    shutil.rmtree(sweep / "lora-r8-seed1")
    assert findings(sweep)["runs"][0] == "lora-r8-seed1: missing"
    RunFolder(sweep / "lora-r8").set_status("failed", "generate", "out of memory")
    write_run(sweep / "lora-r8-seed5", "lora-r8", 5)
    write_texts(sweep)
    found = findings(sweep)["runs"]
    assert "lora-r8: failed, not done" in found
    assert "Planned but not done: lora-r8, training seeds 0, 1." in " ".join(found)
    assert "Not planned: lora-r8, training seeds 5." in " ".join(found)


def test_an_edited_text_is_found(sweep):
    names = ["report.md", "scores.csv", "table.tex"]
    for name in names:
        file = sweep / name
        line = next(x for x in file.read_text().splitlines() if "lora-r8" in x and "3" in x)
        edit(file, line, line.replace("3", "4", 1))
    found = findings(sweep)
    assert {check: sorted(f.split(":")[0] for f in wrong) for check, wrong in found.items()} == {"report": names}


def test_an_edited_number_of_report_json_is_found(sweep):
    """To nine digits: another machine may round otherwise, and has other versions."""
    report = read_json(sweep / "report.json")
    report["differences"][0]["p"] *= 1 + 1e-6
    write_json(sweep / "report.json", report)
    (words,) = findings(sweep)["report"]
    assert words.startswith("report.json: .differences.0.p: ")
    report["differences"][0]["p"] /= (1 + 1e-6) * (1 + 1e-11)
    report["versions"]["numpy"] = "another"
    write_json(sweep / "report.json", report)
    assert findings(sweep) == {}


def test_edited_means_and_losses_are_found(sweep):
    edit(sweep / "base" / "metrics.json", '"train_loss": 0.505', '"train_loss": 0.405')
    edit(sweep / "base" / "metrics.json", '"videos": 8', '"videos": 80')
    found = " ".join(findings(sweep)["metrics"])
    assert "base/metrics.json: training.train_loss: 0.405 in the file, 0.505" in found
    assert ".videos: 80 in the file, 8 recomputed" in found


def test_the_tuning_is_recomputed_from_its_runs(sweep):
    """Two tuning runs of lora-r8, of which the second is better; sweep.json chooses the first."""
    points, chosen = [], {"training.learning_rate": 0.001}
    for k, rate in enumerate((0.001, 0.003)):
        name = f"tune/lora-r8-learning_rate{rate}"
        write_run(
            sweep / name, "lora-r8", 100, 0.2 * k, {"training.learning_rate": rate, "generation.split": "selection"}
        )
        score = point_score([Run(RunFolder(sweep / name))], "instruction")
        points.append({"values": {"training.learning_rate": rate}, "runs": [name], **asdict(score)})
    points[1]["score"] += 0.01
    choice = {"arm": "lora-r8", "points": points, "chosen": chosen, "edges": []}
    tuning = {"by": "instruction", "grid": {"training.learning_rate": []}, "seeds": [100], "choices": [choice]}
    arms = [{"name": "base", "runs": ["base"], "tuned": {}}]
    arms.append({"name": "lora-r8", "runs": ["lora-r8", "lora-r8-seed1"], "tuned": points[1]["values"]})
    write_json(sweep / "sweep.json", {"arms": arms, "seeds": [0, 1], "claims": CLAIMS, "tuning": tuning})
    write_texts(sweep)
    wrong, rule, *rest = findings(sweep)["tuning"]
    assert "lora-r8 at {'training.learning_rate': 0.003}: .score: " in wrong
    assert rule.endswith(f"{chosen} was chosen, the rule gives {points[1]['values']}")
    assert any("tuned is {'training.learning_rate': 0.003}" in r for r in rest)


def test_runs_without_hashes_cannot_be_verified_and_say_so(sweep):
    manifest = read_json(sweep / "base" / "manifest.json")
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


def test_a_record_of_somebody_else_reads_no_other_file_and_prints_no_escape(sweep, tmp_path, answered):
    (tmp_path / "secret").write_text("x")
    run = RunFolder(sweep / "base")
    run.update_manifest(evaluated={"videos": {"../../../secret": file_sha256(tmp_path / "secret")}})
    edit(sweep / "claims.json", "by 0.5", "by 0.5\\u001b[2J")
    out = answered(["report", sweep, "--verify"], 1, "'../../../secret': leaves")
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


def test_a_report_with_other_options_is_not_verified(sweep, answered):
    answered(["report", sweep, "--verify", "--margin", "tse=1"], 2, "with the margins that it was written with")


def test_a_video_keeps_the_hash_that_it_had_at_its_first_score(tmp_path):
    run = RunFolder(tmp_path / "base")
    run.videos.mkdir(parents=True)
    videos = [ScoredVideo(n, 0, None, run.video(n, 0)) for n in ("a", "b")]
    for video in videos:
        video.path.write_bytes(video.sample.encode())

    def record():
        record_videos(run, {run.scores: videos}, ())
        return run.manifest["evaluated"]["videos"]

    first = record()
    assert first == {f"videos/{n}__seed0.mp4": file_sha256(run.video(n, 0)) for n in ("a", "b")}
    row = {"sample": "a", "seed": 0, "prompt": None, "video": "a__seed0.mp4", "measure": "tse", "value": 1.0}
    write_json_lines(run.scores, [row])
    for video in videos:  # the process was killed, and both are replaced
        video.path.write_bytes(b"new")
    assert record() == first
    run.scores.unlink()  # scored anew
    assert record()["videos/a__seed0.mp4"] == file_sha256(run.video("a", 0))
