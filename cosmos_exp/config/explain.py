"""Hydra's and OmegaConf's errors in one or two lines that name the key and its choices."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence

from cosmos_exp.config.paths import conf_dir
from cosmos_exp.config.schema import Config

ANY_OTHER = {
    "rank": "any other number: adapter.rank=NUMBER",
    "alpha": "any other positive number: adapter.alpha=NUMBER",
}
_EXTRAS = {"ray": "ray", "submitit": "slurm", "optuna": "optuna"}
"""Words in the name of a launcher or sweeper, and the extra that installs it."""
_EXAMPLES = {"launcher": "hydra/launcher=slurm_1xh100 or hydra/launcher=ray_1xh100", "sweeper": "hydra/sweeper=optuna"}
_GRAMMAR = r"Lexer\w+|mismatched input|no viable alternative|missing EQUAL|extraneous input"
_WRONG_VALUE = r"(Value '[^']*' .*? could not be converted to \w+|Invalid value .*|Cannot convert .*)"

# What OmegaConf and Hydra say of a value, and what to say instead. Groups of a pattern: the value or type given.
_VALUES = (
    (r"is not Optional", "{key}=null: this key needs a value. Leave it out to keep its default."),
    (r"has missing mandatory value", "{key}=???: this key needs a value. Leave it out to keep its default."),
    (r"NoneType is not a subclass of (\w+)", "{key}=null: must be {given}"),
    (
        r"Invalid value assigned: (\w+) is not a ListConfig",
        "{key}: expected a list, {key}=[…], not one value ({given})",
    ),
    (r"Cannot assign (\w+) to Dict", "{key}: expected keys with values, {key}={{…}}, not one value ({given})"),
    (r"Key (\S+) \(\w+\) is incompatible with \(int\)", "{key}: {given} must be a whole number"),
    (r"(Value '[^']*') is not a valid bool", "{key}: {given} must be true or false"),
    (r"Interpolation key '([^']+)' not found", "{key}=${{{given}}}: {given} is no key; run --cfg job lists them"),
    (r"Recursive interpolation", "{key}: refers to itself. Write the value."),
    (r"dereferencing interpolation '([^']+)': Value", "{key}={given}: that value has another type than {key}"),
    (
        r"Merge error: \w+ is not a subclass of (\w+)",
        "{group}: is a group of keys, no single value. A study chooses it in its defaults: `override /{group}: CHOICE`; an "
        "arm sets `{group}: CHOICE`",
    ),
    (
        r"Unsupported item value in defaults : (\w+)",
        'defaults: a choice is a text, not {given}. Quote it: `override /rank: "8"`',
    ),
    (
        r"Config group override must be a string",
        "{choice}: a group takes the name of one of its choices, e.g. adapter=lora",
    ),
)


def explain(error: BaseException, words: Sequence[str] = ()) -> str:
    """One or two lines for an error of Hydra or OmegaConf.

    Args:
        words: the overrides, to name the one whose error names no key.
    """
    messages = _chain(error)
    text = "\n".join(messages)
    if found := re.search(r"[Cc]ould not (?:find|load) '?hydra/(launcher|sweeper)/(\w+)", text):
        group, name = found.groups()
        extra = next((e for word, e in _EXTRAS.items() if word in name), None)
        if extra is None:
            return f"hydra/{group}={name}: no such {group}. Choose {_EXAMPLES[group]}."
        return f"hydra/{group}={name}: not installed. Run `pip install 'cosmos-exp[{extra}]'`."
    if found := re.search(r"Could not find '(\w+)/([^']*)'", text):
        group, value = found.groups()
        return f"{group}={value}: no such choice. {_choices(group, value)}"
    if found := re.search(r"Ambiguous value for argument '([^=]+)=(.*)'$", text, re.MULTILINE):
        values = found.group(2).replace("'", "")
        return f"{found.group(1)}={values}: several values; add -m to run one after another"
    if found := re.search(r"Error parsing override '([^'=]+)'", text):
        return f"{found.group(1)}: expected KEY=VALUE or GROUP=CHOICE, e.g. seed=1"
    if re.search(_GRAMMAR, text):
        short = " ".join(re.sub(r"See https?://\S+ for details", "", text).split())[:160]
        return f"cannot parse: {short}; expected KEY=VALUE or GROUP=CHOICE, quoted if it holds spaces"
    if found := re.search(r"An item is already at '([^']+)'|Multiple values for ([\w./@]+)\.", text):
        return _given_already(found.group(1) or found.group(2))
    full = re.search(r"full_key: (\S+)", text)
    if plain := _of_a_value(messages, full.group(1) if full else "", words):
        return plain
    if full and re.search(r"Cannot merge \w+ with \w+", text):
        return _not_one_value(full.group(1))
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
    first = next((line for line in messages[-1].splitlines() if line.strip()), type(error).__name__)[:300]
    return f"{full.group(1)}: {first}" if full else first


def _of_a_value(messages: Sequence[str], full: str, words: Sequence[str]) -> str | None:
    """What to say of a value that OmegaConf refuses in its own terms; None for another error.

    Args:
        full: the key; empty if the error names none.
    """
    text, typed = "\n".join(messages), re.search(r"Error merging override ([^=\s]+)=", messages[0])
    key = typed.group(1).lstrip("+") if typed and (not full or full[0].isdigit()) else full
    key += f"[{full}]" if full.isdigit() else ""  # an entry of a list of lists
    for pattern, say in _VALUES:
        if found := re.search(pattern, text):
            given = [*found.groups(), ""][0]
            return say.format(key=key, given=given, group=_group_of(given), choice=_given_to_group(words))
    return None


def _group_of(type_name: str) -> str:
    """The group of the schema whose keys a dataclass has: Adapter -> adapter."""
    return next((f.name for f in dataclasses.fields(Config) if str(f.type) == type_name), type_name)


def _given_to_group(words: Sequence[str]) -> str:
    """The overrides that give a group no name of a choice, e.g. hardware=null."""
    pairs = [word.lstrip("+").partition("=") for word in words]
    wrong = [f"{k}={v}" for k, _, v in pairs if not re.fullmatch(r"['\"].*|[A-Za-z]\w*", v) or v == "null"]
    return ", ".join(w for w in wrong if (conf_dir() / w.partition("=")[0]).is_dir()) or "a group"


def _given_already(key: str) -> str:
    """What to say of `+KEY=VALUE` for a key or group that has a value."""
    if (conf_dir() / key).is_dir():
        return f"{key}: this group has a choice already. Leave out the +: {key}=CHOICE (in a study: override /{key}: CHOICE)"
    return f"+{key}: this key exists, and + is for new keys. Leave out the +: {key}=VALUE"


def _not_one_value(key: str) -> str:
    """What to say of a list or mapping for a key that takes another type."""
    inside = [k for k in all_keys() if k.startswith(f"{key}.")]
    if not inside:
        return f"{key}: takes neither this list nor this mapping. `cosmos-exp run --cfg job` prints its value"
    return f"{key}: is a group of keys and takes no list. Set one of its keys: {', '.join(f'{k}=VALUE' for k in inside[:6])}"


def unknown_flag(flag: str) -> str:
    """What to say of a flag of `run` that does not exist: a key of that name is given as KEY=VALUE."""
    name, _, value = flag.lstrip("-").partition("=")
    key = name.replace("-", "_")
    keys = [*all_keys(), *(p.name for p in conf_dir().iterdir() if p.is_dir())]
    if key not in keys:
        return f"{flag}: no such flag. `cosmos-exp run --help` lists the flags; keys are given as KEY=VALUE, without --"
    return (
        f"{flag}: no such flag. Keys are given without --: {key}={value or ('true' if key == 'dry_run' else 'VALUE')}"
    )


def unknown_hydra_key(error: BaseException, hydra: object) -> str | None:
    """What to say of a key of Hydra's own part that does not exist; None for another error.

    Args:
        hydra: Hydra's own part with the chosen launcher and sweeper, as plain containers.
    """
    messages = _chain(error)
    typed = re.search(r"Could not override '(hydra\.[^']+)'\.\nTo append to your config use (\S+)", messages[0])
    missing = re.search(r"full_key: (\S+)", "\n".join(messages))
    if not typed or not missing:
        return None
    if any("is not in struct" in message for message in messages):  # a free mapping, which takes any key
        return f"{typed[1]}: not in the configuration yet. Put + before it to add it: {typed[2]}"
    parent, _, name = missing[1].rpartition(".")
    known = _keys_at(hydra, parent)
    if parent in ("hydra.launcher", "hydra.sweeper") and name not in known:
        kind = parent.removeprefix("hydra.")
        chosen = str(_value_at(hydra, f"hydra.{kind}._target_")).rpartition(".")[2]
        fix = f"choose the {kind} that has it, e.g. {_EXAMPLES[kind]}"
    else:
        chosen, fix = "Hydra", "run --cfg hydra prints all"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    others = f"; known keys: {', '.join(known)}" if known else ""
    hint = f"did you mean {parent}.{near[0]}?" if near else f"{fix}{others}"
    return f"{missing[1]}: {chosen} has no such key; {hint}"


def _value_at(hydra: object, key: str) -> object:
    node = hydra
    for step in key.split(".")[1:]:
        node = node.get(step) if isinstance(node, Mapping) else None
    return node


def _keys_at(hydra: object, key: str) -> list[str]:
    node = _value_at(hydra, key)
    return sorted(k for k in map(str, node) if not k.startswith("_")) if isinstance(node, Mapping) else []


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
    keys, groups = all_keys(), [p.name for p in conf_dir().iterdir() if p.is_dir()]
    if key in keys and "." in key:  # of a study: on the command line it would be known
        outer, _, inner = key.rpartition(".")
        return (
            f"{key}: a study nests its keys: `{outer}: {{{inner}: VALUE}}`. Only arms and the command line write {key}"
        )
    if key in groups and key not in keys:
        inside = f"Write `adapter: {{{key}: NUMBER}}`, or choose" if key in ANY_OTHER else "Choose"
        return (
            f'{key}: is a group and no key of a study. {inside} it in the study\'s defaults: `override /{key}: "CHOICE"`. '
            f"An arm may set `{key}: CHOICE`, and the command line {key}=CHOICE."
        )
    known, (parent, _, name) = sorted({*keys, *groups}), key.rpartition(".")
    siblings = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == parent}
    near = [siblings[n] for n in difflib.get_close_matches(name, siblings, n=2, cutoff=0.6)]
    near += [k for k in known if k.rpartition(".")[2] == name][: 2 - len(near)]  # the right name in a wrong group
    near = near or difflib.get_close_matches(key, set(known) - {parent}, n=2, cutoff=0.6 if parent == "" else 0.8)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known keys: {', '.join(siblings.values())}"
    return f"{key}: no such key; {hint}"
