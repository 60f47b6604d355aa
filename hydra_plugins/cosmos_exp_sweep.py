"""Hydra finds its plugins in this namespace package. It has no __init__.py, as other plugins share it."""

from __future__ import annotations

from typing import ClassVar

# Not through cosmos_exp.config.composing: Hydra executes its core plugins again as it finds this one, and only the
# class made then is a base that works.
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class CheckedSweeper(BasicSweeper):
    """Hydra's sweeper over values that were all checked before: it composes no run twice."""

    def validate_batch_is_legal(self, batch: object) -> None:
        """Nothing: 500 runs would take a minute and a half."""


class MissingRunsSweeper(CheckedSweeper):
    """Hydra's sweeper over the runs of a sweep that are missing or failed (`cosmos-exp sweep`)."""

    wanted: ClassVar[list[list[str]]] = []

    @staticmethod
    def split_arguments(overrides: object, max_batch_size: int | None) -> list[list[list[str]]]:
        """One batch with all wanted runs; a launcher that runs several at once gets them all."""
        wanted = MissingRunsSweeper.wanted
        return [wanted] if wanted else []
