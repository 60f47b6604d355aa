"""Inputs with random changes, through the command line: the result, or a clear error that names the file or key.

Few inputs, always the same ones, in the test suite; many and fresh ones in `make soak`, which sets SOAK.
"""

import json
import os
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import numpy as np
import yaml
from bad_inputs import run_folder, video
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosmos_exp.config.adapter_file import write_adapter
from cosmos_exp.config.schema import all_keys

SOAK = "SOAK" in os.environ
TRICKS = [
    " ",
    "\x1b[2J",
    "[/red]",
    "=1+1",
    "../private.txt",
    "/etc/passwd",
    "..",
    "nan",
    "1e999",
    "${oc.env:HOME}",
    "${",
]
TRICKS += ["???", "%s", "{0}", "$E=mc^2$", "|", "a\nb", "\u202e", "\ud83d", "Ä" * 300, "x" * 5000, "os.system"]
TEXTS = st.text(max_size=12) | st.sampled_from(TRICKS)
NUMBERS = st.integers(-3, 40) | st.sampled_from((2**63, 10**400, float("nan"), float("inf"), -0.0, 1e-300, 0.5))
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXTS, SCALARS, max_size=3)
# A file of a good folder, and the command that reads it.
READ = {
    "run/config.yaml": ["report", "run"],
    "run/manifest.json": ["report", "run"],
    "run/metrics.json": ["report", "run"],
    "run/scores.jsonl": ["report", "run"],
    "captioned/captions/a.json": ["data", "check", "captioned", "data.fps=null"],
    "gr1/metadata.csv": ["data", "check", "gr1", "data.fps=null"],
    "pytorch_lora_weights.safetensors": ["adapter", "info", "pytorch_lora_weights.safetensors"],
}


def inputs(count, strategy):
    """Try `count` inputs in the test suite, 20 times as many in a soak."""
    few = settings(derandomize=not SOAK, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    return lambda test: settings(few, max_examples=count * 20 if SOAK else count)(given(strategy)(test))


@cache
def good():
    """A folder with a finished run, an adapter and two data sets."""
    top = Path(mkdtemp(prefix="fuzz-"))
    run_folder(top / "run")
    tensors = {"x.lora_A.weight": np.ones((2, 4), np.float32), "x.lora_B.weight": np.ones((4, 2), np.float32)}
    write_adapter(top, tensors, {"r": 2, "lora_alpha": 4.0, "target_modules": ["x"]}, {"base_model": "tabletop"})
    for name in ("captioned/captions", "captioned/videos", "gr1/videos"):
        (top / name).mkdir(parents=True)
    for name in ("captioned", "gr1"):
        (top / name / "videos" / "a.mp4").write_bytes(video())
    (top / "captioned" / "captions" / "a.json").write_text(json.dumps({"m": {"long": "Lift the cup."}}))
    (top / "gr1" / "metadata.csv").write_text("file_name,prompt\na.mp4,wave\n")
    return top


@st.composite
def changed(draw, text):
    """JSON or YAML with another value, an entry fewer or more; or text with a piece removed or inserted."""
    if draw(st.booleans()) or not text.startswith(("{", "adapter:")):
        at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 40))
        return text[:at] + draw(TEXTS) + text[at + length :]
    content = node = yaml.safe_load(text)
    while True:
        key = draw(st.sampled_from(sorted(node)))
        if not isinstance(node[key], dict) or not node[key] or draw(st.booleans()):
            break
        node = node[key]
    removed = node.pop(key)
    if draw(st.booleans()):
        node[key] = draw(VALUES)
    elif draw(st.booleans()):
        node |= {key: removed, draw(TEXTS): draw(VALUES)}
    return json.dumps(content) + "\n"


@inputs(12, st.data())
def test_changed_files(answered, data):
    name = data.draw(st.sampled_from(sorted(READ)))
    with TemporaryDirectory() as top:
        folder = shutil.copytree(good(), Path(top) / "all")
        raw = (folder / name).read_bytes()
        start, stop = 0, len(raw)
        if name.endswith(".safetensors"):  # its header, behind eight bytes with its length
            start, stop = 8, 8 + int.from_bytes(raw[:8], "little")
        new = data.draw(changed(raw[start:stop].decode())).encode("utf-8", "surrogatepass")
        head = len(new).to_bytes(8, "little")[:start]
        (folder / name).write_bytes(head + new + raw[stop:])
        words = [folder / word if (folder / word).exists() else word for word in READ[name]]
        answered(words, None)


KEYS = st.sampled_from([*all_keys(), "rank", "adapter", "hardware", "model", "data", "judge"])
WORDS = st.tuples(st.sampled_from(("", "+", "++")), KEYS | TEXTS, TEXTS | VALUES.map(json.dumps))


@inputs(10, st.lists(WORDS, min_size=1, max_size=3))
def test_command_lines(answered, words):
    overrides = [f"{sign}{key}={value}" for sign, key, value in words]
    answered(["run", *[word for word in overrides if word[0] != "-"], "dry_run=true"], None)
