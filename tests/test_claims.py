"""Claims: their grammar, their tests against closed forms and libraries, how they are frozen, and what the report says."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from claimed_sweep import CLAIMS, arms, config_of, plan, write_run, write_sweep
from scipy import stats

from cosmos_exp.config.paths import sweeps_dir
from cosmos_exp.config.schema import Tune
from cosmos_exp.errors import UserError
from cosmos_exp.report.claims import arm_hash, read_claims
from cosmos_exp.report.study import load_study
from cosmos_exp.report.tables import print_study, report_texts
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.claims import claim_result, correct, parse_claim, untestable
from cosmos_exp.statistics.crossed import SHARE_EXPONENT
from cosmos_exp.statistics.intervals import unseen_failures
from cosmos_exp.sweep.frozen_claims import (
    arms_of,
    check_claims,
    freeze_arms,
    freeze_claims,
    freeze_product,
    frozen_plan,
)
from cosmos_exp.sweep.plan import read_plan


def symmetric(count, deviation=1.0, mean=0.0):
    """Values without skewness, with exactly this mean and standard deviation."""
    values = stats.norm.ppf((np.arange(count) + 0.5) / count)
    return mean + deviation * values / values.std(ddof=1)


def scores(cells):
    """The table of scores of one noise from (scenes, runs)."""
    names = [f"p{c:02d}" for c in range(len(cells))]
    index = pd.MultiIndex.from_arrays([names, names, [0] * len(cells)], names=["scene", "prompt", "noise"])
    return pd.DataFrame(np.asarray(cells, dtype=float), index=index)


def result(text, difference, repeatability=None, base=None):
    """The test of a claim where a is `difference` (scenes) above b in every scene, with one training run each."""
    b = np.zeros(len(difference)) if base is None else base
    a = scores((b + difference)[:, None])
    return claim_result(parse_claim(text), a, scores(b[:, None]), repeatability=repeatability)


def verdict(*claims):
    return [r.verdict for r in correct(claims)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("instruction: lora-r32 > base", ("instruction", "lora-r32", ">", "base", 0.0, 0.0)),
        (" tse:lora-r32<base ", ("tse", "lora-r32", "<", "base", 0.0, 0.0)),
        ("physics: dora-r8 > lora-r8 by 0.25", ("physics", "dora-r8", ">", "lora-r8", 0.25, 0.25)),
        ("tse: a < b by 0.1", ("tse", "a", "<", "b", 0.1, -0.1)),
        ("physics: a > b by -0.2", ("physics", "a", ">", "b", -0.2, -0.2)),
        ("tse: lora-r32 = lora-r8 within 5e-2", ("tse", "lora-r32", "=", "lora-r8", 0.05, 0.05)),
    ],
)
def test_the_grammar(text, parts):
    claim = parse_claim(text)
    assert (claim.measure, claim.a, claim.sign, claim.b, claim.amount, claim.bound) == parts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lora-r32 is better", "not a claim"),
        ("tse: a >= b", "not a claim"),
        ("tse: a = b", "within NUMBER"),
        ("tse: a = b by 0.1", "within NUMBER"),
        ("tse: a > b within 0.1", "by NUMBER"),
        ("tse: a = b within 0", "positive"),
        ("tse: a > b by much", "much is not a number"),
        ("tse: a > b by nan", "finite"),
        ("tse: a > a", "with itself"),
    ],
)
def test_what_is_not_a_claim_is_refused(text, words):
    with pytest.raises(UserError, match=words):
        parse_claim(text)


@pytest.mark.parametrize(("sign", "side"), [(">", "greater"), ("<", "less")])
def test_with_one_run_the_p_value_is_students_one_sided_t(sign, side):
    values, base = symmetric(12, 0.7, 0.4), np.linspace(1, 5, 12)
    for shift in (0.0, 0.25, -0.3):
        found = result(f"m: a {sign} b by {shift}", values, base=base)
        golden = stats.ttest_1samp(values, shift if sign == ">" else -shift, alternative=side).pvalue
        assert found.p == pytest.approx(golden)
        assert found.p_opposite == pytest.approx(1 - golden)
    assert found.difference.mean == pytest.approx(0.4)
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert (found.difference.ci_low, found.difference.ci_high) == pytest.approx((low, high))
    assert not found.is_about_recipe


def test_with_three_runs_scenes_and_runs_are_crossed():
    """Balanced data without interaction: both variance components have a closed form."""
    scenes, u, v = symmetric(10, 0.6), np.array([-0.3, 0.0, 0.3]), np.array([-0.1, -0.1, 0.2])
    a, b = 1.0 + scenes[:, None] / 2 + u, -scenes[:, None] / 2 + v
    between, runs = scenes.var(ddof=1) / 10, [u.var(ddof=1) / 3, v.var(ddof=1) / 3]
    share = between / (between + sum(runs))
    run_df = sum(runs) ** 2 / sum(x**2 / 2 for x in runs)
    df = 1 / (share**SHARE_EXPONENT / 9 + (1 - share) ** SHARE_EXPONENT / run_df)
    golden = stats.t.sf((1.0 - 0.5) / np.sqrt(between + sum(runs)), df)
    found = claim_result(parse_claim("m: a > b by 0.5"), scores(a), scores(b))
    assert found.p == pytest.approx(golden)
    assert found.is_about_recipe


def test_equivalence_is_two_one_sided_tests():
    from statsmodels.stats.weightstats import ttost_paired

    values, base = symmetric(24, 0.3, 0.05), np.linspace(1, 5, 24)
    found = result("m: a = b within 0.25", values, base=base)
    assert found.p == pytest.approx(ttost_paired(base + values, base, -0.25, 0.25)[0])
    assert verdict(found) == ["confirmed"]
    outside = result("m: a = b within 0.25", values + 1, base=base)
    upper = stats.ttest_1samp(values + 1, 0.25, alternative="greater").pvalue
    assert outside.p_opposite == pytest.approx(2 * upper)
    assert verdict(outside) == ["refuted"]


def test_holm_is_over_the_claims_alone_and_an_untestable_one_counts():
    from statsmodels.stats.multitest import multipletests

    own = [result("m: a > b", symmetric(12, 1, m)) for m in (0.9, 0.2, 0.6)] + [
        untestable(parse_claim("m: a > c"), "x")
    ]
    for name in ("p", "p_opposite"):
        golden = multipletests([getattr(r, name) for r in own], method="holm")[1]
        assert [getattr(r, f"{name}_holm") for r in correct(own)] == pytest.approx(list(golden))
    assert own[3].p == 1.0
    assert correct(own)[3].verdict == "not shown"
    close = result("m: a > b", symmetric(12, 1, 0.6))  # p is between 0.025 and 0.05
    assert verdict(close) == ["confirmed"]
    assert verdict(close, untestable(parse_claim("m: a > c"), "x"))[0] == "not shown"
    assert correct([]) == []


def test_the_verdicts():
    assert verdict(result("m: a > b", symmetric(12, 1, 2))) == ["confirmed"]
    assert verdict(result("m: a < b", symmetric(12, 1, 2))) == ["refuted"]
    assert verdict(result("m: a > b", symmetric(12, 1, 0.1))) == ["not shown"]
    assert verdict(result("m: a > b by 1.5", symmetric(12, 0.1, 2))) == ["confirmed"]
    assert verdict(result("m: a > b by 2.5", symmetric(12, 0.1, 2))) == ["refuted"]
    assert verdict(result("m: a > b by -0.5", symmetric(12, 0.5, 0.0))) == ["confirmed"]  # not much worse


def test_a_claim_below_the_repeatability_of_its_measure_is_not_confirmed():
    found = result("m: a > b", symmetric(12, 0.1, 0.2), repeatability=0.3)
    assert verdict(found) == ["not shown"]
    assert "repeatability (0.3)" in found.obstacle
    assert verdict(result("m: a < b", symmetric(12, 0.1, 0.2), repeatability=0.3)) == ["not shown"]
    assert verdict(result("m: a > b", symmetric(12, 0.1, 0.4), repeatability=0.3)) == ["confirmed"]


@pytest.mark.parametrize(
    ("values", "repeatability", "words"),
    [
        (symmetric(22, 0.05), None, "too few scenes to call them equivalent: 22, at least 23"),
        (symmetric(24, 0.05), 0.3, "repeatability (0.3) is not below the margin"),
        (np.zeros(24), None, "all scenes differ by the same amount"),
        (symmetric(24, 0.5, 0.05), None, "interval is not within the margin"),
    ],
)
def test_equivalence_must_be_earned_here_too(values, repeatability, words):
    found = result("m: a = b within 0.25", values, repeatability=repeatability, base=np.linspace(1, 5, len(values)))
    assert verdict(found) == ["not shown"]
    assert words in found.obstacle


def test_the_same_difference_in_all_scenes_is_a_sign_test():
    found = result("m: a > b by 0.5", np.full(6, 1.0))
    assert found.p == pytest.approx(stats.binomtest(6, 6, alternative="greater").pvalue)
    assert verdict(found) == ["confirmed"]
    assert verdict(result("m: a < b", np.full(6, 1.0))) == ["refuted"]
    assert result("m: a > b by 1", np.full(6, 1.0)).p == 1.0
    assert verdict(result("m: a = b within 0.5", np.full(6, 1.0))) == ["refuted"]


def test_what_cannot_be_tested_says_why():
    claim = parse_claim("m: a > b")
    assert "only one scene" in result("m: a > b", np.ones(1)).reason
    other = scores(np.ones((1, 1))).rename({"p00": "q"})
    assert "no scene" in claim_result(claim, scores(np.ones((3, 1))), other).reason


def test_claims_name_arms_and_measures_that_exist():
    for claim, words in (
        ("instructon: lora-r8 > base", "instructon is no measure. Did you mean instruction?"),
        ("tse: lora-r9 > base", "lora-r9 is no arm of this sweep. Did you mean lora-r8?"),
    ):
        with pytest.raises(UserError, match=words.replace("?", r"\?")):
            frozen_plan([claim], arms())
    with pytest.raises(UserError, match="is there twice"):
        frozen_plan(["tse: lora-r8 > base", "tse:  lora-r8 >  base"], arms())


def test_an_arm_is_its_configuration_without_seed_and_tuned_keys():
    arm = config_of("lora-r8")
    assert arm_hash(config_of("lora-r8", seed=3)) == arm_hash(arm)
    faster = arm.updated({"training.learning_rate": 2 * arm.training.learning_rate})
    assert arm_hash(faster) != arm_hash(arm)
    assert arm_hash(faster, ["training.learning_rate"]) == arm_hash(arm, ["training.learning_rate"])
    assert arm_hash(config_of("lora-r32")) != arm_hash(arm)
    assert arm_hash(config_of("lora-r32"), ["rank"]) == arm_hash(arm, ["rank"])
    base = config_of("base").updated({"adapter.rank": 7, "training.epochs": 99})
    assert arm_hash(base) == arm_hash(config_of("base"))
    assert arm.seed == 0
    assert arm.adapter.rank == 8  # unchanged


def test_a_plan_holds_margins_prompts_seeds_and_tuning():
    tune = Tune(grid={"training.learning_rate": [0.001, 0.003]})
    found = frozen_plan([], arms(), tune)
    assert found.margins["instruction"] == 0.25
    assert found.generation_seeds == list(config_of("base").generation.seeds)
    assert found.arms["lora-r8"].training_seeds == [0, 1, 2]
    assert found.tuning["grid"] == {"training.learning_rate": [0.001, 0.003]}
    assert frozen_plan([], arms()).tuning == {}


def test_arms_of_a_product_of_values_are_its_runs_without_seeds():
    runs = [SimpleNamespace(name=n, config=config_of("lora-r8", s)) for n, s in (("a", 0), ("a-seed1", 1), ("b", 0))]
    assert {name: seeds for name, (_, seeds) in arms_of(runs).items()} == {"a": [0, 1], "b": [0]}


def test_the_same_plan_again_changes_nothing_and_no_claims_no_file(tmp_path):
    assert freeze_claims(tmp_path, plan([])) is None
    assert not list(tmp_path.iterdir())
    assert "3 claims frozen" in freeze_claims(tmp_path, plan())
    before = (tmp_path / "claims.json").read_bytes()
    assert freeze_claims(tmp_path, plan()) is None
    assert (tmp_path / "claims.json").read_bytes() == before
    record = read_claims(tmp_path)
    assert record.intact
    assert record.claims == CLAIMS
    assert record.changed_after_scores == []
    assert len(record.commit) in (0, 40)


def test_a_change_is_in_the_history_with_its_date_and_whether_scores_existed(tmp_path):
    freeze_claims(tmp_path, plan(CLAIMS[:1]))
    freeze_claims(tmp_path, plan(CLAIMS[:2]))
    write_run(tmp_path / "base", "base", 0)
    assert "after the first score" in freeze_claims(tmp_path, plan(CLAIMS[1:2]))
    record = read_claims(tmp_path)
    assert [v["after_scores"] for v in record.versions] == [False, False, True]
    assert record.changed_after_scores == record.versions[2:]
    (after,) = (w for w in warnings_of(tmp_path) if "changed" in w)
    assert f"after the first score: `{CLAIMS[0]}` removed" in after
    freeze_claims(tmp_path, replace(plan(CLAIMS[1:2]), margins={"instruction": 9.0}))
    assert [w for w in warnings_of(tmp_path) if "changed" in w][-1].endswith("after the first score: other margins.")
    assert "0 claims changed" in freeze_claims(tmp_path, plan([]))  # withdrawn, which is a change


def test_prompts_that_become_known_later_are_no_change_of_the_plan(tmp_path):
    unknown = replace(plan(), prompts=None)
    freeze_claims(tmp_path, unknown)
    write_run(tmp_path / "base", "base", 0)
    assert freeze_claims(tmp_path, plan()) is None
    assert read_claims(tmp_path).content["prompts"] is None
    other = tmp_path / "other"
    freeze_claims(other, plan())
    assert freeze_claims(other, unknown) is None  # on a machine without the data
    assert freeze_claims(other, replace(plan(), prompts={"p9": "Lift 9"})) is not None


def test_claims_made_after_the_scores_are_marked_from_the_start(tmp_path):
    write_run(tmp_path / "base", "base", 0)
    freeze_claims(tmp_path, plan())
    record = read_claims(tmp_path)
    assert record.after_scores
    assert record.heading.startswith("Claims changed after the first score")


def test_scores_of_selection_prompts_do_not_count(tmp_path):
    write_run(tmp_path / "tune" / "base", "base", 0)
    config = tmp_path / "tune" / "base" / "config.yaml"
    config.write_text(config.read_text().replace("split: test", "split: selection"))
    freeze_claims(tmp_path, plan())
    assert not read_claims(tmp_path).after_scores


def test_other_scenes_are_a_change(tmp_path):
    write_sweep(tmp_path)
    freeze_claims(tmp_path, replace(plan(), scenes={**plan().scenes, "p1": "p0"}))
    assert "other scenes" in warnings_of(tmp_path)[0]


def warnings_of(folder):
    return load_study(folder).claims_warnings


def test_a_hand_edit_is_found(tmp_path):
    freeze_claims(tmp_path, plan())
    file = tmp_path / "claims.json"
    file.write_text(file.read_text().replace("by 0.5", "by 0.1"))
    assert not read_claims(tmp_path).intact
    with pytest.raises(UserError, match="changed by hand"):
        freeze_claims(tmp_path, plan())
    file.write_text(file.read_text()[:-40])
    with pytest.raises(UserError, match="not a record of claims"):
        read_claims(tmp_path)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write_sweep(tmp_path_factory.mktemp("outputs") / "sweeps" / "mine")


def test_the_report_tests_the_claims_first(sweep, capsys):
    study = load_study(sweep)
    texts = report_texts(study)
    text = texts["report.md"]
    assert text.index("## Claims, frozen before the first score on 20") < text.index("| adapter")
    assert [claim.verdict for claim in study.claims] == ["confirmed", "confirmed", "refuted"]
    assert [claim.about_recipe for claim in study.claims] == [True, False, True]
    notes = [claim.note for claim in study.claims]
    few = "holds if no training run fails (3 runs)"
    assert notes == [few, "about these trained adapters only", few]  # lora-r32 has one training run
    assert f"- ✓ {CLAIMS[0]}   confirmed: " in text
    assert f"- ✗ {CLAIMS[2]}   refuted: " in text
    assert "95 % upper bound on the share of such runs: 63 %" in text
    assert f"% ✓ {CLAIMS[0]}   confirmed: " in texts["table.tex"]
    assert [row["verdict"] for row in json.loads(texts["report.json"])["claims"]] == [
        "confirmed",
        "confirmed",
        "refuted",
    ]
    print_study(study)
    assert f"✓ {CLAIMS[0]}   confirmed: " in capsys.readouterr().out


def test_what_three_training_runs_say_holds_if_none_fails_and_five_say_it(tmp_path):
    """Golden values: 1 - 0.05^(1/n), the upper Clopper-Pearson bound for 0 of n (scipy)."""
    for runs in (3, 5, 10):
        golden = stats.binomtest(0, runs).proportion_ci(0.90, "exact").high  # two-sided 90 %: 5 % above
        assert unseen_failures(runs) == pytest.approx(golden)
    write_run(tmp_path / "base", "base", 0)
    for seed in range(5):
        write_run(tmp_path / f"lora-r8-seed{seed}", "lora-r8", seed)
    five = load_study(tmp_path)
    shutil.rmtree(tmp_path / "lora-r8-seed4")
    four = load_study(tmp_path)
    assert [study.mean("lora-r8", "instruction")["mark"] for study in (five, four)] == ["+", "+°"]
    assert r"+$^\circ$" in report_texts(four)["table.tex"]


def test_arms_that_differ_in_more_than_is_compared_are_labelled(tmp_path):
    """DoRA 8 with twice LoRA 8's alpha: not the effect of the kind."""
    for arm in ("base", "lora-r8", "lora-r32"):
        write_run(tmp_path / arm, arm, 0)
    file = tmp_path / "lora-r32" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["adapter"] |= {"kind": "dora", "rank": 8, "alpha": 16.0}
    file.write_text(yaml.safe_dump(config))
    freeze_claims(tmp_path, plan(["physics: lora-r8 = lora-r32 within 1"]))
    study = load_study(tmp_path)
    assert (
        "the arms also differ in scale of the update: 2 -> 1 (adapter.alpha: 16.0 -> 8.0), which was not tuned"
        in study.claims[0].note
    )
    assert "scale of the update: 1 -> 2 (adapter.alpha: 8.0 -> 16.0)" in set(study.differences["also_different"])
    config["adapter"]["alpha"] = 8.0
    file.write_text(yaml.safe_dump(config))
    study = load_study(tmp_path)
    assert "also differ" not in study.claims[0].note
    assert set(study.differences["also_different"]) == {""}


def test_margins_that_came_after_the_scores_are_dated(sweep, tmp_path):
    folder = shutil.copytree(sweep, tmp_path / "copy")
    when = "2026-11-24T10:00:00+00:00"
    study = load_study(folder, margins=["physics=0.5"], margins_at=when)
    assert (
        "The margin physics=0.5 was given on 2026-11-24 10:00 UTC, after the scores; the runs have 0.25." in study.notes
    )
    assert "The margin of physics is 0.5 here, but 0.25 was frozen." in study.claims_warnings
    run = RunFolder(folder / "lora-r8")
    run.update_manifest(evaluated={"again": {"scores-abc.jsonl": when}})
    text = " ".join(load_study(folder).notes)
    assert (
        "lora-r8 was scored again with other measures, judge or videos on 2026-11-24 10:00 UTC; scores-abc.jsonl"
        in text
    )


def test_without_claims_there_is_no_section_of_them(tmp_path):
    for arm in ("base", "lora-r8"):
        write_run(tmp_path / arm, arm, 0)
    study = load_study(tmp_path)
    assert (study.claims, study.claims_heading) == ([], "")
    assert "Claims" not in report_texts(study)["report.md"]


def test_only_what_was_planned_is_tested_and_missing_runs_are_named(tmp_path):
    freeze_claims(tmp_path, plan([*CLAIMS, "tse: lora-r8 < base"]))
    for arm, seed in (("base", 0), ("lora-r8", 0), ("lora-r8", 1), ("lora-r8", 7)):
        write_run(tmp_path / f"{arm}-seed{seed}", arm, seed)
    study = load_study(tmp_path)
    by_text = {claim.text: claim for claim in study.claims}
    assert not by_text[CLAIMS[0]].about_recipe  # two runs: seed 7 is not in the plan
    missing = "cannot be tested: no finished run of lora-r32. It counts with p = 1 in Holm's correction"
    assert by_text[CLAIMS[1]].note == missing
    assert by_text["tse: lora-r8 < base"].note.startswith("cannot be tested: lora-r8 has no tse")
    assert [by_text[CLAIMS[1]].verdict, by_text[CLAIMS[1]].p] == ["not shown", None]
    warnings = " ".join(study.claims_warnings)
    assert "Planned but not done: lora-r8, training seeds 2." in warnings
    assert "Planned but not done: lora-r32, training seeds 0." in warnings
    assert "Not planned: lora-r8, training seeds 7." in warnings


def test_a_change_after_the_scores_is_shown_with_its_date(tmp_path):
    write_sweep(tmp_path / "s", CLAIMS[:1])
    freeze_claims(tmp_path / "s", plan(CLAIMS[:2]))
    study = load_study(tmp_path / "s")
    today = read_claims(tmp_path / "s").frozen[:10]
    assert study.claims_heading.startswith(f"Claims changed after the first score, on {today}")
    assert f"after the first score: `{CLAIMS[1]}` added." in study.claims_warnings[0]


def test_the_claims_of_the_paper_name_its_runs():
    """tests/test_sweep.py checks that these are the runs of lora_vs_dora, which has the same product."""
    sweep = yaml.safe_load((sweeps_dir() / "paper.yaml").read_text())
    params = yaml.safe_load((sweeps_dir() / "lora_vs_dora.yaml").read_text())["hydra"]["sweeper"]["params"]
    assert sweep["hydra"]["sweeper"]["params"] == params
    assert len(check_claims(sweep["sweep"]["claims"], ["base", "lora-r8", "lora-r32", "dora-r8", "dora-r32"])) == 9


def test_a_sweep_that_is_a_product_freezes_the_claims_of_its_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("cosmos_exp.sweep.frozen_claims.prompts_of", lambda config: (None, None))
    runs = []
    for name, arm, seed in (("base", "base", 0), ("lora-r8", "lora-r8", 0), ("lora-r8-seed1", "lora-r8", 1)):
        config = config_of(arm, seed).updated({"sweep.claims": ["tse: lora-r8 < base"]})
        runs.append(SimpleNamespace(name=name, config=config, folder=RunFolder(tmp_path / name)))
    first = runs[0].config
    runs[0].config = first.updated({"dry_run": True})
    assert freeze_product(runs) is None
    assert not (tmp_path / "claims.json").exists()  # a plan starts no run
    runs[0].config = first
    assert "1 claims frozen" in freeze_product(runs)
    arms_frozen = read_claims(tmp_path).content["arms"]
    assert {n: a["training_seeds"] for n, a in arms_frozen.items()} == {"base": [0], "lora-r8": [0, 1]}
    with pytest.raises(UserError, match=r"lora-r8 is no arm .*\n.*sweep.claims=\[\] for none"):
        freeze_product(runs[:1])


def test_a_sweep_by_arms_freezes_its_tuning_too(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "defaults: [config, _self_]\nname: mine\ndata: {validation_videos: 1}\n"
        "sweep:\n  arms: {base: {adapter: none}, few: {adapter.rank: 2}}\n"
        "  tune: {grid: {training.learning_rate: [0.001, 0.003]}}\n  seeds: [0, 1]\n"
    )
    plan_of_arms = read_plan(file, [], tmp_path)
    assert freeze_arms(plan_of_arms) is None  # no claims
    claimed = replace(plan_of_arms, sweep=plan_of_arms.sweep.updated({"claims": ["tse: few < base"]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cosmos_exp.sweep.frozen_claims.prompts_of", lambda config: ({"p": "Lift."}, {"p": "1"}))
        freeze_arms(claimed)
    record = read_claims(plan_of_arms.folder)
    assert list(record.content["tuning"]["grid"]) == ["training.learning_rate"]
    assert {n: a["training_seeds"] for n, a in record.content["arms"].items()} == {"base": [0], "few": [0, 1]}
    for arm in plan_of_arms.test_runs({"few": {"training.learning_rate": 0.003}})["few"]:
        assert arm_hash(arm.config, ["training.learning_rate"]) == record.content["arms"]["few"]["config_hash"]
