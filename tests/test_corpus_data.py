"""Bad data through the real command line: each case has a clear error that names the file and the fix, or is handled."""

import pytest
from corpus.cases import check
from corpus.data_cases import FILES, METADATA


@pytest.mark.parametrize("case", METADATA + FILES, ids=lambda c: c.name)
def test_bad_data(case, tmp_path, cli, capsys):
    check(case, tmp_path, cli, capsys)
