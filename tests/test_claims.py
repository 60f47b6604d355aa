"""Claims: their grammar, their tests against closed forms and libraries, how they are frozen, and what the report says."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from claimed_sweep import CLAIMS, arms, config_of, plan, write_run, write_sweep
from scipy import stats
from test_statistics import symmetric

from cosmos_exp.config.paths import sweeps_dir
from cosmos_exp.errors import UserError
from cosmos_exp.report.claims import arm_hash, read_claims
from cosmos_exp.report.study import load_study
from cosmos_exp.report.tables import print_study, report_texts
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.claims import claim_result, correct, parse_claim, untestable
from cosmos_exp.statistics.crossed import SHARE_EXPONENT
from cosmos_exp.sweep.frozen_claims import check_claims, freeze_arms, freeze_claims, freeze_product, frozen_plan
from cosmos_exp.sweep.plan import read_plan


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
        (" tse:lora-r32<base ", ("tse", "lora-r32", "<", "base", 0.0)),
        ("tse: a < b by 0.1", ("tse", "a", "<", "b", -0.1)),
        ("physics: a > b by -0.2", ("physics", "a", ">", "b", -0.2)),
        ("tse: lora-r32 = lora-r8 within 5e-2", ("tse", "lora-r32", "=", "lora-r8", 0.05)),
    ],
)
def test_the_grammar(text, parts):
    claim = parse_claim(text)
    assert (claim.measure, claim.a, claim.sign, claim.b, claim.bound) == parts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tse: a >= b", "not a claim"),
        ("tse: a = b", "within NUMBER"),
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
        assert (found.p, found.p_opposite) == pytest.approx((golden, 1 - golden))


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
    assert found.difference.recipe


def test_equivalence_is_two_one_sided_tests():
    from statsmodels.stats.weightstats import ttost_paired

    values, base = symmetric(24, 0.3, 0.05), np.linspace(1, 5, 24)
    found, outside = (result("m: a = b within 0.25", v, base=base) for v in (values, values + 1))
    assert found.p == pytest.approx(ttost_paired(base + values, base, -0.25, 0.25)[0])
    upper = stats.ttest_1samp(values + 1, 0.25, alternative="greater").pvalue
    assert outside.p_opposite == pytest.approx(2 * upper)
    assert (verdict(found), verdict(outside)) == (["confirmed"], ["refuted"])


def test_holm_is_over_the_claims_alone_and_an_untestable_one_counts():
    """The correction itself is checked in tests/test_statistics.py."""
    close, other = result("m: a > b", symmetric(12, 1, 0.7)), untestable(parse_claim("m: a > c"), "x")
    assert 0.05 / 3 < close.p < 0.05 / 2
    assert verdict(close, other) == ["confirmed", "not shown"]
    assert verdict(close, other, other) == ["not shown"] * 3


@pytest.mark.parametrize(
    ("text", "difference", "repeatability", "expected", "obstacle"),
    [
        ("m: a > b", symmetric(12, 1, 2), None, "confirmed", ""),
        ("m: a < b", symmetric(12, 1, 2), None, "refuted", ""),
        ("m: a > b", symmetric(12, 1, 0.6), None, "not shown", "interval is not within the claim"),  # p = 0.03
        ("m: a > b", symmetric(12, 1, 0.1), None, "not shown", ""),
        ("m: a > b by 2.5", symmetric(12, 0.1, 2), None, "refuted", ""),
        ("m: a > b by -0.5", symmetric(12, 0.5), None, "confirmed", ""),  # not much worse
        ("m: a > b", symmetric(12, 0.1, 0.2), 0.3, "not shown", "repeatability (0.3)"),
        ("m: a = b within 0.25", symmetric(22, 0.05), None, "not shown", "too few scenes"),
        ("m: a = b within 0.25", np.zeros(24), None, "not shown", "all scenes differ by the same amount"),
    ],
)
def test_the_verdicts(text, difference, repeatability, expected, obstacle):
    found = result(text, difference, repeatability)
    assert verdict(found) == [expected]
    assert obstacle in found.obstacle


def test_the_same_difference_in_all_scenes_is_a_sign_test():
    found = result("m: a > b by 0.5", np.full(6, 1.0))
    assert found.p == pytest.approx(stats.binomtest(6, 6, alternative="greater").pvalue)
    assert verdict(found) == ["confirmed"]
    assert result("m: a > b by 1", np.full(6, 1.0)).p == 1.0


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        (["instructon: lora-r8 > base"], "instructon is no measure"),
        (["tse: lora-r9 > base"], "lora-r9 is no arm of this sweep"),
        (["tse: lora-r8 > base", "tse:  lora-r8 >  base"], "is there twice"),
    ],
)
def test_claims_name_arms_and_measures_that_exist(claims, words):
    with pytest.raises(UserError, match=words):
        frozen_plan(claims, arms())


def test_the_same_plan_again_changes_nothing_and_no_claims_no_file(tmp_path):
    assert freeze_claims(tmp_path, plan([])) is None
    assert not list(tmp_path.iterdir())
    assert "3 claims frozen" in freeze_claims(tmp_path, plan())
    assert freeze_claims(tmp_path, plan()) is None
    record = read_claims(tmp_path)
    assert (record.intact, record.content["claims"], record.changed_after_scores) == (True, CLAIMS, [])


def test_a_change_is_in_the_history_with_its_date_and_whether_scores_existed(tmp_path):
    freeze_claims(tmp_path, plan(CLAIMS[:1]))
    freeze_claims(tmp_path, plan(CLAIMS[:2]))
    write_run(tmp_path / "base", "base", 0)
    assert "after the first score" in freeze_claims(tmp_path, replace(plan(CLAIMS[1:2]), margins={"instruction": 9.0}))
    record = read_claims(tmp_path)
    assert [v["after_scores"] for v in record.versions] == [False, False, True]
    heading = load_study(tmp_path).claims_heading
    assert heading.startswith(f"Claims changed after the first score, on {record.frozen[:10]}")
    assert "0 claims changed" in freeze_claims(tmp_path, plan([]))  # withdrawn, which is a change


def test_prompts_that_become_known_later_are_no_change_of_the_plan(tmp_path):
    unknown = replace(plan(), prompts=None)
    freeze_claims(tmp_path, unknown)
    write_run(tmp_path / "base", "base", 0)
    assert freeze_claims(tmp_path, plan()) is None
    other = tmp_path / "other"
    freeze_claims(other, plan())
    assert freeze_claims(other, unknown) is None  # on a machine without the data
    assert freeze_claims(other, replace(plan(), prompts={"p9": "Lift 9"})) is not None


def test_scores_of_selection_prompts_do_not_count(tmp_path):
    write_run(tmp_path / "tune" / "base", "base", 0, changes={"generation.split": "selection"})
    freeze_claims(tmp_path, plan())
    assert not read_claims(tmp_path).changed_after_scores


def test_a_hand_edit_is_found(tmp_path):
    freeze_claims(tmp_path, plan())
    file = tmp_path / "claims.json"
    file.write_text(file.read_text().replace("by 0.5", "by 0.1"))
    assert not read_claims(tmp_path).intact
    with pytest.raises(UserError, match="changed by hand"):
        freeze_claims(tmp_path, plan())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write_sweep(tmp_path_factory.mktemp("outputs") / "sweeps" / "mine")


def test_the_report_tests_the_claims_first(sweep, capfd):
    study = load_study(sweep)
    print_study(study)
    text, latex = report_texts(study)["report.md"], report_texts(study)["table.tex"]
    assert text.index("## Claims, frozen before the first score on 20") < text.index("| adapter")
    assert list(study.claims["verdict"]) == ["confirmed", "confirmed", "refuted"]
    assert list(study.claims["about_recipe"]) == [True, False, True]
    few = "holds if no training run fails (3 runs)"  # lora-r32 has one training run
    assert list(study.claims["note"]) == [few, "about these trained adapters only", few]
    assert f"- ✗ {CLAIMS[2]}   refuted: " in text
    assert f"% ✓ {CLAIMS[0]}   confirmed: " in latex
    assert f"✓ {CLAIMS[0]}   confirmed: " in capfd.readouterr().out


def test_arms_that_differ_in_more_than_is_compared_are_labelled(tmp_path):
    """DoRA 8 with twice LoRA 8's alpha: not the effect of the kind."""
    write_run(tmp_path / "lora-r8", "lora-r8", 0)
    dora = {"adapter.kind": "dora", "adapter.rank": 8, "adapter.alpha": 16.0}
    write_run(tmp_path / "lora-r32", "lora-r32", 0, changes=dora)
    freeze_claims(tmp_path, plan(["physics: lora-r8 = lora-r32 within 1"]))
    study = load_study(tmp_path)
    assert "the arms also differ in adapter.scale: 2.0 -> 1.0, which was not tuned" in study.claims["note"][0]
    assert "adapter.scale: 1.0 -> 2.0" in set(study.differences["also_different"])


def test_a_margin_that_is_not_the_frozen_one_is_said(sweep):
    warnings = load_study(sweep, margins=["physics=0.5"]).claims_warnings
    assert warnings == ["The margin of physics is 0.5 here, but 0.25 was frozen."]


def test_only_what_was_planned_is_tested_and_missing_runs_are_named(tmp_path):
    freeze_claims(tmp_path, plan([*CLAIMS, "tse: lora-r8 < base"]))
    for arm, seed in (("base", 0), ("lora-r8", 0), ("lora-r8", 1), ("lora-r8", 7)):
        write_run(tmp_path / f"{arm}-seed{seed}", arm, seed)
    study = load_study(tmp_path)
    by_text = study.claims.set_index("text")
    assert not by_text.loc[CLAIMS[0], "about_recipe"]  # two runs: seed 7 is not in the plan
    missing = "cannot be tested: no finished run of lora-r32. It counts with p = 1 in Holm's correction"
    assert list(by_text.loc[CLAIMS[1], ["note", "verdict"]]) == [missing, "not shown"]
    assert by_text.loc["tse: lora-r8 < base", "note"].startswith("cannot be tested: lora-r8 has no tse")
    warnings = " ".join(study.claims_warnings)
    assert "Planned but not done: lora-r8, training seeds 2." in warnings
    assert "Not planned: lora-r8, training seeds 7." in warnings


def test_the_claims_of_the_paper_name_its_runs():
    """tests/test_sweep.py checks that these are the runs of lora_vs_dora, which has the same product."""
    sweep = yaml.safe_load((sweeps_dir() / "paper.yaml").read_text())
    assert len(check_claims(sweep["sweep"]["claims"], ["base", "lora-r8", "lora-r32", "dora-r8", "dora-r32"])) == 9


def test_a_sweep_that_is_a_product_freezes_the_claims_of_its_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("cosmos_exp.sweep.frozen_claims.prompts_of", lambda config: (None, None))
    runs = []
    for name, arm, seed in (("base", "base", 0), ("lora-r8", "lora-r8", 0), ("lora-r8-seed1", "lora-r8", 1)):
        config = config_of(arm, seed).updated({"sweep.claims": ["tse: lora-r8 < base"]})
        runs.append(SimpleNamespace(name=name, config=config, folder=RunFolder(tmp_path / name)))
    assert "1 claims frozen" in freeze_product(runs)
    arms_frozen = read_claims(tmp_path).content["arms"]
    assert {n: a["training_seeds"] for n, a in arms_frozen.items()} == {"base": [0], "lora-r8": [0, 1]}
    with pytest.raises(UserError, match=r"lora-r8 is no arm .*\n.*sweep.claims=\[\] for none"):
        freeze_product(runs[:1])


def test_a_sweep_by_arms_freezes_its_tuning_too(tmp_path, monkeypatch):
    monkeypatch.setattr("cosmos_exp.sweep.frozen_claims.prompts_of", lambda config: (None, None))
    file = tmp_path / "mine.yaml"
    file.write_text(
        "defaults: [config, _self_]\nname: mine\ndata: {validation_videos: 1}\n"
        "sweep:\n  arms: {base: {adapter: none}, few: {adapter.rank: 2}}\n  claims: ['tse: few < base']\n"
        "  tune: {grid: {training.learning_rate: [0.001, 0.003]}}\n  seeds: [0, 1]\n"
    )
    freeze_arms(read_plan(file, ["dry_run=true"], tmp_path))
    plan_of_arms = read_plan(file, [], tmp_path)
    assert read_claims(plan_of_arms.folder) is None  # a dry run starts no run
    freeze_arms(plan_of_arms)
    content = read_claims(plan_of_arms.folder).content
    assert list(content["tuning"]["grid"]) == ["training.learning_rate"]
    assert {n: a["training_seeds"] for n, a in content["arms"].items()} == {"base": [0], "few": [0, 1]}
    for arm in plan_of_arms.test_runs({"few": {"training.learning_rate": 0.003}})["few"]:
        assert arm_hash(arm.config, ["training.learning_rate"]) == content["arms"]["few"]["config_hash"]
