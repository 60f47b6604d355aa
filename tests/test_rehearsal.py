"""README's commands for the real model in their shortest form; `make rehearsal`: all of them, and every stop on the way.

The commands are those of README, to the letter. What differs is the address of the hub (HF_ENDPOINT), which is a stand-in on
this machine (tests/hub_standin.py) with random weights of small sizes (tests/hub_repositories.py), and the sizes in conf/:
the commands see a copy with `SMALLER`.
"""

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from conftest import GUARDRAIL, IS_LONG, ROOT, needs_guardrail
from hub_standin import TOKEN, serve_downloads

from cosmos_exp.experiment import fork_server
from cosmos_exp.run_folder import ADAPTER_FILE, RunFolder

GATED = {
    "nvidia/Cosmos-Predict2.5-2B",
    "nvidia/Cosmos-1.0-Guardrail",
    "nvidia/Cosmos-Reason2-2B",
    "nvidia/Cosmos-Reason2-8B",
}
PROCESSES = 2 if IS_LONG else 1
# Sizes, and what follows from them: a large rate for few steps, no small first loss of random weights, one or two processes on a CPU.
SMALLER = yaml.safe_load(
    """
model/cosmos_predict25_2b: {height: 96, width: 160, num_frames: 9, max_first_loss: "null", text_channels: 128,
  num_attention_heads: 2, attention_head_dim: 32, num_layers: 2, text_embed_dim: 64, adaln_lora_dim: 16}
data/gr1_100: {expected_videos: 3}
training/diffusers: {epochs: 2, global_batch_size: 2, learning_rate: 0.003,
  schedule: "{warmup_samples: 0, total_samples: 100000, f_max: 0.5, f_min: 0.2}"}
generation/cosmos: {seeds: "[0]", num_steps: 2}
# bf16 is emulated on a CPU: twelve seconds to encode a window.
hardware/1xh100: {device: cpu, compile: "false", mixed_precision: "'no'"}
judge/reason2_8b: {max_new_tokens: 4}  # reason2_2b takes it from there
"""
) | {"hardware/8xh100": {"num_processes": PROCESSES}}


def small_house(folder):
    """An installation whose conf/ has small sizes: links to the packages, and a copy of conf/."""
    folder.mkdir(parents=True)
    for name in ("cosmos_exp", "hydra_plugins", "sweeps"):
        (folder / name).symlink_to(ROOT / name)
    for file in (ROOT / "conf").rglob("*.yaml"):
        name = file.relative_to(ROOT / "conf")
        text = file.read_text()
        for key, value in SMALLER.get(str(name.with_suffix("")), {}).items():
            text, count = re.subn(rf"^( *{key}:) .*$", rf"\1 {value}", text, flags=re.MULTILINE)
            assert count == 1, f"conf/{name}: {count} lines {key}"
        (folder / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "conf" / name).write_text(text)


def readme_commands():
    """The commands of README's section "The real model"."""
    section = (ROOT / "README.md").read_text().partition("## The real model\n")[2].partition("\n## ")[0]
    commands = []
    for line in section.splitlines():
        if line.startswith("cosmos-exp "):
            commands.append(line.partition("  #")[0].strip())
    return commands


class Machine:
    """A machine with an empty cache and two cores, on which a user types commands.

    Args:
        work: its folder.
        hub: what it downloads from.
    """

    def __init__(self, work, hub):
        self.work, self.hub = work, hub
        self.doctor, self.plan, self.lora, self.dora = readme_commands()[:4]
        small_house(work / "house")
        paths = [str(work / "house"), str(GUARDRAIL)]
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "WANDB_"))}
        self.environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(paths),
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(work / "home"),
            "COSMOS_EXP_CACHE": str(work / "cache"),
            "WANDB_MODE": "offline",
            "OMP_NUM_THREADS": "1",
            "PYTHONFAULTHANDLER": "1",
            "HF_HUB_DISABLE_XET": "1",  # its storage is not part of the stand-in
        }

    def start(self, command, file_bytes=None, **variables):
        """Type a command and return at once.

        Args:
            file_bytes: no file may become larger.
        """

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

        print(f"\n$ {' '.join(f'{k}={v}' for k, v in variables.items())} {command}".replace("$  ", "$ "), flush=True)
        return subprocess.Popen(
            shlex.split(command),
            cwd=self.work,
            env=self.environment | variables,
            preexec_fn=limit if file_bytes else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def types(self, command, code, *expected, file_bytes=None, **variables):
        """Type a command and return what it said, after `check`."""
        return self.check(self.start(command, file_bytes, **variables), code, *expected)

    def check(self, process, code, *expected):
        """Wait for a command. It ends with this exit code, and says what is expected."""
        try:
            said, _ = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # it says where it is
            said, _ = process.communicate()
        lines = said.strip().splitlines()
        shown = lines if len(lines) <= 12 else [*lines[:3], "…", *lines[-8:]]
        print("\n".join([line[:240] for line in shown] + [f"(exit code {process.returncode})"]), flush=True)
        absent = [text for text in expected if text not in said]
        assert process.returncode == code, said
        assert not absent, said
        assert "Traceback" not in said, said
        return said

    def runs(self):
        """The run folders, oldest first."""
        return [RunFolder(str(file.parent)) for file in sorted(self.work.glob("outputs/*/*/status.json"))]


def finished(folder, *measures):
    """Check a run: done, its videos checked by the real guardrail, scored by each measure."""
    manifest, scored = folder.manifest, json.loads((folder.path / "metrics.json").read_text())["measures"]
    guarded = str(manifest.get("guardrail")).startswith("cosmos_guardrail 0.")
    absent = [measure for measure in measures if not scored.get(measure, {}).get("n")]
    assert (folder.status["state"], guarded, manifest["processes"], absent) == ("done", True, PROCESSES, [])


@contextmanager
def machine_and_hub(folder):
    """The hub with all repositories, and a machine that nobody has used."""
    paths = [str(ROOT / "tests"), str(ROOT), str(GUARDRAIL)]
    code = f"import sys; sys.path[:0] = {paths}; import test_rehearsal as t; t.build(t.Path({str(folder / 'hub')!r}))"
    built = fork_server.start("builtins:exec", (code, {}), log=folder / "build.txt")
    assert built.wait(300) == 0, (folder / "build.txt").read_text()
    with serve_downloads(folder / "hub") as hub:
        hub.gated, hub.accepted = set(GATED), set(GATED)
        yield Machine(folder / "machine", hub)


def build(root):
    """Write all repositories."""
    import hub_repositories as repositories
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
        library.set_verbosity_error()
    repositories.model_2b(root)
    repositories.guardrail(root)
    for size in ("2B", "8B"):
        repositories.reason2(root, f"nvidia/Cosmos-Reason2-{size}")
    repositories.lightglue(root)
    repositories.robot_data(root, 13, videos=3, prompts=1)


# --- the stages ---


def licences(machine):
    """Before a login and a licence, all of them are asked for at once."""
    hub = machine.hub
    hub.accepted.clear()
    links = []
    for name in ("Cosmos-Predict2.5-2B", "Cosmos-1.0-Guardrail", "Cosmos-Reason2-"):
        links.append(f"its licence is not accepted. Accept it at {hub.endpoint}/nvidia/{name}")
    machine.types(machine.lora, 2, *links)
    machine.types(f"hf auth login --token {TOKEN}", 0)
    hub.accepted |= GATED


def plan(machine):
    """Without the guardrail's package, and with it."""
    machine.types(machine.lora, 2, "pip install --no-deps cosmos_guardrail", PYTHONPATH=str(machine.work / "house"))
    machine.types(machine.doctor, 0, "the hub gives")
    machine.types(machine.plan, 0, "trainable parameters")


def stops(machine):
    """In the download: a disk that is full, Ctrl-C, and a start without a network after it."""
    machine.types(machine.lora, 1, "cannot be written", "then start again", file_bytes=2**18)
    machine.hub.seconds_a_piece = 0.5
    process = machine.start(machine.lora)
    count = len(machine.hub.requests)
    while not any(path.startswith("/cdn") for _, path, _, _ in machine.hub.requests[count:]):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    machine.check(process, 1, "the same command downloads the files that are not complete")
    assert not list(machine.work.rglob("*.incomplete"))
    machine.hub.seconds_a_piece = 0.0
    machine.types(machine.lora, 2, "HF_HUB_OFFLINE is set", HF_HUB_OFFLINE="1")


def lora(machine):
    """The run, in whose download a connection breaks in the middle of a file."""
    machine.hub.breaks = {"face_blur_filter/Resnet50_Final.pth": 1}
    machine.types(machine.lora, 0)
    assert any(asked and status == 206 for _, _, asked, status in machine.hub.requests), "no download was resumed"
    finished(machine.runs()[-1], "physics", "instruction")


def dora(machine):
    """DoRA, and the table of both."""
    machine.types(machine.dora, 0)
    finished(machine.runs()[-1], "physics", "instruction")
    machine.types("cosmos-exp report outputs", 0, "dora", "lora")


def published(machine):
    """An adapter on the hub."""
    machine.types(f"cosmos-exp publish {machine.runs()[-1].path} --to ann/rehearsal", 0, "uploaded: ")
    files = machine.hub.uploaded["ann/rehearsal"]
    assert ADAPTER_FILE in files


def offline(machine):
    """A second start without a network."""
    count = len(machine.hub.requests)
    machine.types(machine.doctor, 0, "nothing is to be downloaded", HF_HUB_OFFLINE="1")
    machine.types(f"cosmos-exp run run_dir={machine.runs()[-1].path}", 0, HF_HUB_OFFLINE="1")
    assert not machine.hub.requests[count:]


SHORT = (licences, lora)
ALL = (licences, plan, stops, lora, dora, published, offline)


@pytest.mark.timeout(1800)
@needs_guardrail
def test_the_commands_of_readme_go_from_an_empty_cache_without_a_licence_to_a_scored_run(tmp_path):
    with machine_and_hub(tmp_path) as machine:
        for stage in ALL if IS_LONG else SHORT:
            print(f"\n--- {stage.__name__}: {stage.__doc__}", flush=True)
            stage(machine)
