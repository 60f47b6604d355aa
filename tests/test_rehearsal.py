"""README's commands for the real model against a hub on this machine, in their shortest form; `make rehearsal` has all of them."""

import pytest
from rehearsal import PACKAGE, SHORT, machine_and_hub, rehearse


@pytest.mark.slow
@pytest.mark.skipif(not PACKAGE.is_dir(), reason="cosmos_guardrail is not in .venv/guardrail; `make test` installs it")
def test_the_commands_of_readme_go_from_an_empty_cache_without_a_licence_to_a_scored_run(tmp_path):
    with machine_and_hub(tmp_path) as machine:
        rehearse(machine, SHORT)
