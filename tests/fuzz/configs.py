"""Configurations of the schema's shape: as a run's record, as a study, and as words of the command line."""

from __future__ import annotations

import json
import tempfile
import time
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from pydantic import BaseModel

from cosmos_exp.config.schema import Config, all_keys
from cosmos_exp.errors import UserError
from fuzz import SLOWEST, Property, answer, check_named
from fuzz.values import DEEP, JSON, NUMBERS, TEXTS, TRICKS, encoded


@cache
def fields() -> dict[str, Any]:
    """Every key that is no group: dotted name -> its type."""
    return {key: field.annotation for key, field in all_keys().items() if not _is_group(field.annotation)}


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and not typing.get_origin(kind) and issubclass(kind, BaseModel)


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type of the schema, extremes too."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return of_type(inner[0])
    if origin is typing.Literal:
        return st.one_of(st.sampled_from(inner), TEXTS)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(of_type(t) for t in inner))
    if origin is tuple:
        return st.lists(of_type(inner[0]), min_size=1, max_size=3)
    if origin is list:
        return st.lists(of_type(inner[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(of_type(inner[0]), of_type(inner[1]), max_size=3)
    simple = {bool: st.booleans(), str: TEXTS, type(None): st.none()}
    if kind in simple:
        return simple[kind]
    if kind is int:
        return st.one_of(st.integers(-2, 64), NUMBERS.filter(lambda v: isinstance(v, int)))
    return NUMBERS if kind is float else JSON


@st.composite
def entries(draw: Any) -> dict[str, Any]:
    """Some keys with values: mostly of the right type or a choice, sometimes anything."""
    names = draw(st.lists(st.sampled_from(sorted(fields())), min_size=1, max_size=5, unique=True))
    return {name: draw(st.one_of(of_type(fields()[name]), of_type(fields()[name]), JSON)) for name in names}


@st.composite
def contents(draw: Any) -> Any:
    """A record's content: the defaults with other entries, sometimes with unknown keys or another shape."""
    content = yaml.safe_load(default_record())
    for name, value in draw(entries()).items():
        *groups, last = name.split(".")
        node = content
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    how = draw(st.sampled_from(("", "", "", "unknown", "group", "anything")))
    if how == "unknown":
        owner = draw(st.sampled_from([content, *(v for v in content.values() if isinstance(v, dict))]))
        owner[draw(st.one_of(TEXTS, st.integers(), st.booleans(), st.none()))] = draw(JSON)
    elif how == "group":
        content[draw(st.sampled_from(sorted(content)))] = draw(JSON)
    return draw(JSON) if how == "anything" else content


@cache
def default_record() -> str:
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.config.record import save_config

    with tempfile.TemporaryDirectory() as folder:
        save_config(compose_config([]), Path(folder) / "config.yaml")
        return (Path(folder) / "config.yaml").read_text()


RAW = st.one_of(
    DEEP.map(lambda text: f"name: {text}\n"),
    st.text(max_size=30),
    st.tuples(
        st.integers(0, 2000),
        st.sampled_from(
            ("*a", "&a ", "!!python/name:os.system ", "\t", "- ", "? ", "%", "---\n", "<<: ", "0x", "'", "}")
        ),
    ).map(lambda cut: default_record()[: cut[0]] + cut[1] + default_record()[cut[0] :]),
)


def record(text: str) -> None:
    """A record's config.yaml is loaded, or refused by name; what is loaded can be saved, loaded again, and is then the same."""
    from cosmos_exp.config.record import load_config

    with tempfile.TemporaryDirectory() as folder:
        file, again = Path(folder) / "config.yaml", Path(folder) / "again.yaml"
        file.write_bytes(encoded(text))
        began = time.process_time()
        try:
            config = load_config(file)
        except UserError as error:
            check_named(file, error)
        else:
            _check_again(config, again)
        assert time.process_time() - began < SLOWEST, "more than two seconds"


def _check_again(config: Config, file: Path) -> None:
    from cosmos_exp.config.hashing import stage_hash
    from cosmos_exp.config.record import load_config, save_config

    stages = ("train", "generate", "evaluate")
    hashes = [stage_hash(config, stage) for stage in stages]
    save_config(config, file)
    assert [stage_hash(load_config(file), stage) for stage in stages] == hashes


def as_words(content: dict[str, Any]) -> list[str]:
    """Overrides of Hydra with the values as JSON, which its grammar mostly reads."""
    return [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in content.items()]


def planned(words: list[str]) -> None:
    """`run … dry_run=true`: prints the plan of the run, or says what is wrong."""
    answer(["run", *words, "dry_run=true"])


def study(content: Any) -> None:
    """`sweep FILE --list`: lists the runs, or says what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.yaml"
        head = {"defaults": ["config", "_self_"]} if isinstance(content, dict) else None
        file.write_bytes(encoded(yaml.safe_dump(head | content if head else content, allow_unicode=True)))
        answer(["sweep", file, "--list"])


@st.composite
def studies(draw: Any) -> Any:
    """A study: entries as groups, and arms, tuning, claims, sweeper parameters and other parts of Hydra."""
    content: dict[str, Any] = {"name": draw(st.one_of(st.just("study"), TEXTS))}
    for name, value in draw(entries()).items():
        *groups, last = name.split(".")
        node = content
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    keys = st.sampled_from(["rank", "adapter", "training.learning_rate", "seed", "judge", "hydra.launcher", *TRICKS])
    values = st.one_of(
        st.integers(-1, 64), st.lists(NUMBERS, max_size=2), st.sampled_from(("lora", "8,16", "dora")), JSON
    )
    options = st.dictionaries(keys, values, max_size=2)
    if draw(st.booleans()):
        arms = st.dictionaries(
            st.one_of(st.sampled_from(("base", "a", "b")), TEXTS), st.one_of(options, JSON), max_size=3
        )
        sweep = {"arms": draw(st.one_of(arms, arms, JSON))}
        if draw(st.booleans()):
            sweep["tune"] = draw(st.one_of(st.fixed_dictionaries({"grid": options}), JSON))
        if draw(st.booleans()):
            sweep["claims"] = draw(st.one_of(st.just(["instruction: a > b"]), st.lists(TEXTS, max_size=2), JSON))
        content["sweep"] = sweep
    else:
        params = st.fixed_dictionaries(
            {"sweeper": st.fixed_dictionaries({"params": options}), "mode": st.just("MULTIRUN")}
        )
        content["hydra"] = draw(st.one_of(params, params, JSON))
    return content


WORDS = st.one_of(
    entries().map(as_words),
    st.lists(
        st.tuples(
            st.sampled_from(("", "", "+", "++", "~")),
            st.one_of(
                st.sampled_from([*sorted(fields()), "rank", "alpha", "adapter", "hardware", "model", "data", "judge"]),
                TEXTS,
            ),
            st.sampled_from(("=", "=", "=", "@x=", "")),
            TEXTS,
        ).map("".join),
        min_size=1,
        max_size=3,
    ).filter(lambda words: not any(w.startswith("-") for w in words)),
)

TOO_DEEP = "name: " + "[" * 900 + "]" * 900 + "\n"
NO_STUDIES: list[Any] = [
    {"hydra": None},
    {"hydra": {"sweeper": {"params": {" ": 0}}}},
    {"hydra": {"sweeper": {"params": [1]}}},
]
RECORDS = st.one_of(contents().map(lambda c: yaml.safe_dump(c, allow_unicode=True)), RAW)
PROPERTIES = (
    Property("record", record, RECORDS, 20, [TOO_DEEP]),
    Property("command line", planned, WORDS, 8),
    Property("study", study, studies(), 5, NO_STUDIES),
)
