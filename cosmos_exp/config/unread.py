"""Keys on the command line that a run never reads, because another choice switches off what they belong to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from cosmos_exp.config.schema import Config

Reason = Callable[[Config], str | None]


def unread_keys(overrides: Iterable[str], config: Config) -> list[str]:
    """One line for each override without effect: the override, and the choice because of which nothing reads it.

    Args:
        overrides: as typed, e.g. `rank=8`.
        config: what they compose to.
    """
    found = []
    for word in overrides:
        key, sign, _ = word.lstrip("+").partition("=")
        reason = next(
            (r for pattern, why in _RULES if sign and re.fullmatch(pattern, key) and (r := why(config))), None
        )
        if reason:
            shown = word.replace("'", "")  # as typed: `quote_choices` has quoted numbers
            found.append(f"{shown}: no effect, because {reason}")
    return found


def _no_adapter(config: Config) -> str | None:
    return "adapter=none has no adapter and no training" if config.adapter.kind == "none" else None


def _no_training(config: Config) -> str | None:
    if config.adapter.truncate_from:
        return "adapter.truncate_from takes a finished adapter, without training"
    return _no_adapter(config)


def _no_reader(name: str) -> Reason:
    return lambda config: (
        f"data.reader={config.data.reader}; only {name} reads it" if config.data.reader != name else None
    )


def _not_rendered(config: Config) -> str | None:
    return "only data=tabletop reads it" if not config.data.builder else None


def _captioned(config: Config) -> str | None:
    return "every video of data=tabletop has a caption" if config.data.builder else None


def _no_video(config: Config) -> str | None:
    return "generation.split=none makes no videos" if config.generation.split == "none" else None


def _no_sampson(config: Config) -> str | None:
    return "sampson.enabled=false" if not config.sampson.enabled else _no_video(config)


def _no_judge(config: Config) -> str | None:
    return "judge=none asks no judge" if config.judge.name == "none" else _no_video(config)


def _no_server(config: Config) -> str | None:
    return f"judge={config.judge.name} is no server" if config.judge.name != "server" else None


def _one_run(config: Config) -> str | None:
    return "this is one run; it counts for several (run -m, cosmos-exp sweep)"


def _no_sweep(config: Config) -> str | None:
    return "only `cosmos-exp sweep` reads it"


def _no_dashboard(config: Config) -> str | None:
    return "tracking=none writes no dashboard" if config.tracking.mode == "off" else None


def _no_asked_judge(config: Config) -> str | None:
    return None if config.judge.name == "none" else _no_video(config)


def _no_search(config: Config) -> str | None:
    return "only a sweeper that searches reads it (run -m hydra/sweeper=optuna)"


# The first rule that matches a key and gives a reason counts.
_RULES: tuple[tuple[str, Reason], ...] = (
    (r"rank|alpha|adapter\.(?!kind$).*", _no_adapter),
    (r"training\.(?!condition_timestep$).*", _no_training),  # generation reads that one, too
    (r"data\.(camera|episodes|skip_tasks)", _no_reader("lerobot")),
    (r"data\.(train_clips|look|test_pairs)", _not_rendered),
    (r"data\.prompt", _captioned),
    (r"generation\.(?!split$).*", _no_video),
    (r"sampson\.(?!enabled$).*", _no_sampson),
    (r"sampson|measures\..*", _no_video),
    (r"judge|judge\.name", _no_asked_judge),
    (r"judge\.(url|media|timeout|retries)", _no_server),
    (r"judge\.(?!name$).*", _no_judge),
    (r"objective", _no_search),
    (r"sweep\..*", _no_sweep),
    (r"fail_fast|hydra[/.]launcher.*|hydra\.sweep\..*", _one_run),
    (r"tags|tracking\.(?!mode$).*", _no_dashboard),
)
