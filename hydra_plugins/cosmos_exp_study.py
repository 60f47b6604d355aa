"""Hydra finds its plugins in this namespace package; it has no __init__.py, as other plugins share it."""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class StudySweeper(BasicSweeper):
    """Hydra's sweeper over the runs that a study still lacks (`cosmos-exp sweep`)."""

    wanted: tuple[tuple[str, ...], ...] = ()

    def split_arguments(self, overrides: Any, max_batch_size: int | None) -> list[list[list[str]]]:  # type: ignore[override]
        """One batch of the wanted runs; a launcher that takes several at once gets all."""
        return [[list(job) for job in type(self).wanted]] if type(self).wanted else []
