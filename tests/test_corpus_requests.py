"""Requests through the real command line that must be refused before anything is computed or written."""

import pytest
from corpus.cases import check
from corpus.requests import LATER, SWEEPS


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
