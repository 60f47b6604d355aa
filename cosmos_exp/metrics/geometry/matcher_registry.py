"""The matchers by name. To add one, write a class with the methods of `Matcher` and add a line to MATCHERS."""

from __future__ import annotations

from cosmos_exp.config.builders import import_function
from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.geometry.matching import Matcher

# `sampson.matcher` -> a callable of (settings, threads) that returns a Matcher
MATCHERS = {
    "sift": "cosmos_exp.metrics.geometry.sift:SiftMatcher.from_settings",
    "superpoint_lightglue": "cosmos_exp.metrics.geometry.lightglue:LightGlueMatcher.from_settings",
}


def load_matcher(settings: SampsonSettings, threads: int = 1) -> Matcher:
    """The matcher that `sampson.matcher` names.

    Raises:
        UserError: unknown name, or the matcher's module cannot be imported.
    """
    if settings.matcher not in MATCHERS:
        raise UserError(f"sampson.matcher={settings.matcher}: choose one of {', '.join(MATCHERS)}")
    matcher: Matcher = import_function("sampson.matcher", MATCHERS[settings.matcher])(settings, threads)
    return matcher
