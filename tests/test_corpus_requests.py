"""Requests through the real command line that must be refused before anything is computed or written."""

import pytest
from corpus.cases import check
from corpus.requests import LATER, NUMBERS, STUDIES, SWEEPS, WORDS

from cosmos_exp.cli.run import refuse_two_values


@pytest.mark.parametrize("case", NUMBERS, ids=lambda c: c.name)
def test_a_number_is_refused_before_a_folder_is_made(case, tmp_path, cli, capsys):
    check(case, tmp_path, cli, capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("case", WORDS, ids=lambda c: c.name)
def test_a_wrong_word_is_answered_in_our_words(case, tmp_path, cli, capsys):
    check(case, tmp_path, cli, capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("case", STUDIES, ids=lambda c: c.name)
def test_a_wrong_study_or_command_is_named_with_its_fix(case, tmp_path, cli, capsys):
    check(case, tmp_path, cli, capsys)


def test_a_group_and_a_key_that_refines_it_are_not_two_values():
    refuse_two_values(["rank='8'", "rank=8", "adapter.rank=16", "seed=1", "++seed=1"])


@pytest.mark.parametrize("case", LATER, ids=lambda c: c.name)
def test_what_would_fail_after_training_is_found_before_it(case, tmp_path, cli, capsys, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    check(case, tmp_path, cli, capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("case", SWEEPS, ids=lambda c: c.name)
def test_what_a_sweep_lacks_is_found_before_its_first_run(case, tmp_path, cli, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = check(case, tmp_path, cli, capfd)
    assert len(said.partition("cosmos-exp: ")[2].strip().splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []
