"""Reports of changed records hold nothing raw and nothing from outside, or refuse by name. See tests/fuzz."""

import pytest
from fuzz.records import PROPERTIES


@pytest.mark.parametrize("of", PROPERTIES, ids=lambda p: p.name)
def test_fuzz(of):
    of.run()
