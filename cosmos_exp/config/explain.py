"""From overrides to a checked Config, with errors that name the key and what it may be. Imports nothing heavy."""

from __future__ import annotations

import difflib
import re
from typing import Any

from cosmos_exp.config.paths import conf_dir
from cosmos_exp.config.schema import Config

ANY_OTHER = {
    "rank": "any other number: adapter.rank=NUMBER",
    "alpha": "any other positive number: adapter.alpha=NUMBER",
}


def explain(error: BaseException) -> str:
    """One or two lines for an error of Hydra or OmegaConf."""
    chain: list[str] = []
    step: BaseException | None = error
    while step is not None:
        chain.append(str(step))
        step = step.__cause__
    text = "\n".join(chain)
    launcher = re.search(r"[Cc]ould not (?:find|load) '?hydra/launcher/(\w+)", text)
    if launcher:
        extra = "ray" if "ray" in launcher.group(1) else "slurm"
        return (
            f"hydra/launcher={launcher.group(1)}: not here; pip install 'cosmos-exp[{extra}]' brings Hydra's launcher"
        )
    choice = re.search(r"Could not find '(\w+)/([^']*)'", text)
    if choice:
        group, value = choice.groups()
        return f"{group}={value}: no such choice; {_choices(group)}"
    several = re.search(r"Ambiguous value for argument '([^=]+)=(.*)'$", text, re.MULTILINE)
    if several:
        key, values = several.group(1), several.group(2).replace("'", "")
        return f"{key}={values}: several values; add -m to run one after another"
    grammar = re.search(r"(?:Lexer\w+|mismatched input|no viable alternative|missing EQUAL|extraneous input).*", text)
    if grammar:
        return f"not understood: {' '.join(text.split())[:160]}; expected KEY=VALUE or GROUP=CHOICE, quoted where it has spaces"
    unknown = re.search(r"[Kk]ey '([^']+)' (?:is not in struct|not in '\w+')", text)
    if unknown:
        full = re.search(r"full_key: (\S+)", text)
        return _unknown_key(full.group(1) if full else unknown.group(1))
    group_missing = re.search(r"Could not override '([^']+)'", text)
    if group_missing:
        return _unknown_key(group_missing.group(1))
    wrong = re.search(r"(Value '[^']*' .*? could not be converted to \w+|Invalid value .*|Cannot convert .*)", text)
    key = re.search(r"full_key: (\S+)", text)
    if wrong and key:
        return f"{key.group(1)}: {wrong.group(1)}"
    return "\n".join(line for line in chain[-1].splitlines() if line.strip())[:600]


def _choices(group: str) -> str:
    folder = conf_dir() / group
    names = sorted(
        (p.stem for p in folder.glob("*.yaml")), key=lambda n: (not n.isdigit(), int(n) if n.isdigit() else 0, n)
    )
    return f"choose one of {', '.join(names)}" + (f"; {ANY_OTHER[group]}" if group in ANY_OTHER else "")


def all_keys(node: Any = None, where: str = "") -> dict[str, Any]:
    """Every key of the schema, dotted, with its dataclass field."""
    import dataclasses

    node = Config() if node is None else node
    keys = {}
    for f in dataclasses.fields(node):
        keys[where + f.name] = f
        if dataclasses.is_dataclass(getattr(node, f.name)):
            keys |= all_keys(getattr(node, f.name), f"{where}{f.name}.")
    return keys


def _unknown_key(key: str) -> str:
    known = [*all_keys(), *(p.name for p in conf_dir().iterdir() if p.is_dir())]
    near = difflib.get_close_matches(key, known, n=2, cutoff=0.6)
    siblings = [k for k in known if k.rpartition(".")[0] == key.rpartition(".")[0]]
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(set(siblings)))}"
    return f"{key}: no such key; {hint}"
