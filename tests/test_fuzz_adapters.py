"""Changed adapter files are refused by name, or loaded as what they are. See tests/fuzz."""

import pytest
from fuzz.adapters import PROPERTIES


@pytest.mark.parametrize("of", PROPERTIES, ids=lambda p: p.name)
def test_fuzz(of):
    of.run()
