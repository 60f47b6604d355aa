"""Hydra's and OmegaConf's errors in one or two lines that name the key and its choices."""

from __future__ import annotations

import dataclasses
import difflib
import re

from cosmos_exp.config.paths import conf_dir
from cosmos_exp.config.schema import Config

ANY_OTHER = {
    "rank": "any other number: adapter.rank=NUMBER",
    "alpha": "any other positive number: adapter.alpha=NUMBER",
}
_GRAMMAR = r"Lexer\w+|mismatched input|no viable alternative|missing EQUAL|extraneous input"
_WRONG_VALUE = r"(Value '[^']*' .*? could not be converted to \w+|Invalid value .*|Cannot convert .*)"


def explain(error: BaseException) -> str:
    """One or two lines for an error of Hydra or OmegaConf."""
    messages = _chain(error)
    text = "\n".join(messages)
    if found := re.search(r"[Cc]ould not (?:find|load) '?hydra/launcher/(\w+)", text):
        extra = "ray" if "ray" in found.group(1) else "slurm"
        return f"hydra/launcher={found.group(1)}: not installed. Run `pip install 'cosmos-exp[{extra}]'`."
    if found := re.search(r"Could not find '(\w+)/([^']*)'", text):
        group, value = found.groups()
        return f"{group}={value}: no such choice. {_choices(group, value)}"
    if found := re.search(r"Ambiguous value for argument '([^=]+)=(.*)'$", text, re.MULTILINE):
        values = found.group(2).replace("'", "")
        return f"{found.group(1)}={values}: several values; add -m to run one after another"
    if re.search(_GRAMMAR, text):
        short = " ".join(text.split())[:160]
        return f"cannot parse: {short}; expected KEY=VALUE or GROUP=CHOICE, quoted if it holds spaces"
    full = re.search(r"full_key: (\S+)", text)
    if found := re.search(r"[Kk]ey '([^']+)' (?:is not in struct|not in '\w+')", text):
        return unknown_key(full.group(1) if full else found.group(1))
    if found := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(found.group(1))
    if found := re.search(r"Unsupported interpolation type (\S+)", text):
        where = f"{full.group(1)}: " if full else ""
        return (
            f"{where}${{{found.group(1)}:…}} is refused: a configuration reads nothing from this machine. Write the value "
            "itself, or the path of another key, e.g. ${model.height}."
        )
    if (found := re.search(_WRONG_VALUE, text)) and full:
        return f"{full.group(1)}: {found.group(1)}"
    return "\n".join(line for line in messages[-1].splitlines() if line.strip())[:600]


def _chain(error: BaseException) -> list[str]:
    """The messages of an error and of its causes."""
    messages: list[str] = []
    step: BaseException | None = error
    while step is not None:
        messages.append(str(step))
        step = step.__cause__
    return messages


def _choices(group: str, wrong: str) -> str:
    def order(name: str) -> tuple[bool, int, str]:
        return not name.isdigit(), int(name) if name.isdigit() else 0, name

    names = sorted((p.stem for p in (conf_dir() / group).glob("*.yaml")), key=order)
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    hint = f"Did you mean {group}={near[0]}? " if near else ""
    return f"{hint}Choose one of {', '.join(names)}" + (f"; {ANY_OTHER[group]}" if group in ANY_OTHER else "")


def all_keys(node: object = None, where: str = "") -> list[str]:
    """Every key of the schema, dotted."""
    node = Config() if node is None else node
    keys = []
    for f in dataclasses.fields(node):  # type: ignore[arg-type]  # a dataclass of the schema
        keys.append(where + f.name)
        if dataclasses.is_dataclass(getattr(node, f.name)):
            keys += all_keys(getattr(node, f.name), f"{where}{f.name}.")
    return keys


def unknown_key(key: str) -> str:
    """What to say of a key that does not exist: the near ones."""
    known = [*all_keys(), *(p.name for p in conf_dir().iterdir() if p.is_dir())]
    near = difflib.get_close_matches(key, known, n=2, cutoff=0.6)
    siblings = [k for k in known if k.rpartition(".")[0] == key.rpartition(".")[0]]
    hint = f"did you mean {' or '.join(near)}?" if near else f"known keys: {', '.join(sorted(set(siblings)))}"
    return f"{key}: no such key; {hint}"
