"""Configurations of any shape compose and check, or give a clear error. See tests/fuzz."""

import pytest
from fuzz.configs import PROPERTIES


@pytest.mark.parametrize("of", PROPERTIES, ids=lambda p: p.name)
def test_fuzz(of):
    of.run()
