"""Data sets with changed captions and metadata are read, or refused by name. See tests/fuzz."""

import pytest
from fuzz.data import PROPERTIES


@pytest.mark.parametrize("of", PROPERTIES, ids=lambda p: p.name)
def test_fuzz(of):
    of.run()
