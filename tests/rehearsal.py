"""`make rehearsal`: README's commands for the real model, from an empty cache to a published adapter, and every stop on the way.

    python tests/rehearsal.py [STAGE…] [--folder DIR]

The commands are those of README, to the letter. What differs is the address of the hub (HF_ENDPOINT), which is a stand-in on
this machine (tests/hub_standin.py) with random weights of small sizes (tests/hub_repositories.py), and the sizes in conf/:
the commands see a copy with `SMALLER`. With --folder a later call continues in the same place, e.g. with the stage `dora`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hub_standin import TOKEN, Standin, serve_downloads

from cosmos_exp.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
PACKAGE = Path(sys.prefix) / "guardrail"  # the real cosmos_guardrail, beside the environment
GATED = {
    "nvidia/Cosmos-Predict2.5-2B",
    "nvidia/Cosmos-1.0-Guardrail",
    "nvidia/Cosmos-Reason2-2B",
    "nvidia/Cosmos-Reason2-8B",
}
FRAMES = 9
# Sizes, and what follows from them: a large rate for few steps, no small first loss of random weights, two processes on a CPU.
SMALLER: dict[str, dict[str, object]] = {
    "model/cosmos_predict25_2b": {
        "height": 96,
        "width": 160,
        "num_frames": FRAMES,
        "max_first_loss": "null",
        "text_channels": 128,
        "num_attention_heads": 2,
        "attention_head_dim": 32,
        "num_layers": 2,
        "text_embed_dim": 64,
        "adaln_lora_dim": 16,
    },
    "data/gr1_100": {"expected_videos": 3},
    "training/diffusers": {
        "epochs": 2,
        "global_batch_size": 2,
        "learning_rate": 0.003,
        "schedule": "{warmup_samples: 0, total_samples: 100000, f_max: 0.5, f_min: 0.2}",
    },
    "generation/cosmos": {"seeds": "[0]", "num_steps": 2},
    # bf16 is emulated on a CPU: twelve seconds to encode a window.
    "hardware/1xh100": {"device": "cpu", "compile": "false", "mixed_precision": "'no'"},
    "hardware/8xh100": {"num_processes": 2},
    "judge/reason2_8b": {"max_new_tokens": 4},  # reason2_2b takes it from there
}


def small_house(folder: Path) -> None:
    """An installation whose conf/ has small sizes: links to the packages, and a copy of conf/."""
    folder.mkdir(parents=True)
    for name in ("cosmos_exp", "hydra_plugins", "sweeps"):
        (folder / name).symlink_to(ROOT / name)
    for file in (ROOT / "conf").rglob("*.yaml"):
        name = file.relative_to(ROOT / "conf")
        text = file.read_text()
        for key, value in SMALLER.get(str(name.with_suffix("")), {}).items():
            text, count = re.subn(rf"^( *{key}:) .*$", rf"\1 {value}", text, flags=re.MULTILINE)
            if count != 1:
                raise SystemExit(f"conf/{name}: {count} lines {key}")
        (folder / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "conf" / name).write_text(text)


def readme_commands() -> list[str]:
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

    def __init__(self, work: Path, hub: Standin):
        self.work, self.hub = work, hub
        self.doctor, self.plan, self.lora, self.dora = readme_commands()[:4]
        if not (work / "house").is_dir():
            small_house(work / "house")
        paths = [str(work / "house"), str(PACKAGE)]
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

    def start(self, command: str, file_bytes: int | None = None, **variables: str) -> subprocess.Popen[str]:
        """Type a command and return at once.

        Args:
            file_bytes: no file may become larger.
        """

        def limit() -> None:
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

    def types(self, command: str, code: int, *expected: str, file_bytes: int | None = None, **variables: str) -> str:
        """Type a command and return what it said. It ends with this exit code, and says what is expected."""
        return self.check(self.start(command, file_bytes, **variables), code, *expected)

    def check(self, process: subprocess.Popen[str], code: int, *expected: str) -> str:
        """Wait for a command. Raises SystemExit if it ended or spoke otherwise."""
        try:
            said, _ = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # it says where it is
            said, _ = process.communicate()
        lines = said.strip().splitlines()
        shown = lines if len(lines) <= 12 else [*lines[:3], "…", *lines[-8:]]
        print("\n".join([line[:240] for line in shown] + [f"(exit code {process.returncode})"]), flush=True)
        absent = [text for text in expected if text not in said]
        if process.returncode != code or absent or "Traceback" in said:
            print(said, file=sys.stderr)
            raise SystemExit(f"expected exit code {code}, and in what it says: {absent}")
        return said

    def runs(self) -> list[RunFolder]:
        """The run folders, oldest first."""
        return [RunFolder(str(file.parent)) for file in sorted(self.work.glob("outputs/*/*/status.json"))]


def finished(folder: RunFolder, *measures: str) -> None:
    """Check a run: done, its videos checked by the real guardrail, two processes, scored by each measure."""
    manifest, scored = folder.manifest, json.loads((folder.path / "metrics.json").read_text())["measures"]
    guarded = str(manifest.get("guardrail")).startswith("cosmos_guardrail 0.")
    absent = [measure for measure in measures if not scored.get(measure, {}).get("n")]
    print(f"{folder.path.name}: {manifest.get('guardrail')}; {', '.join(scored)}")
    if folder.status["state"] != "done" or not guarded or manifest["processes"] != 2 or absent:
        raise SystemExit(f"{folder.path}: {folder.status}, {manifest.get('guardrail')}, without {absent}: {scored}")


@contextmanager
def machine_and_hub(folder: Path) -> Iterator[Machine]:
    """The hub with all repositories, and a machine that nobody has used."""
    build = f"import sys, rehearsal; rehearsal.build(rehearsal.Path({str(folder / 'hub')!r}))"
    paths = [str(ROOT / "tests"), str(ROOT), str(PACKAGE)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    if not (folder / "hub").is_dir():
        subprocess.run([sys.executable, "-W", "ignore", "-c", build], env=environment, check=True)
    with serve_downloads(folder / "hub") as hub:
        hub.gated, hub.accepted = set(GATED), set(GATED)
        yield Machine(folder / "machine", hub)


def build(root: Path) -> None:
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
    repositories.robot_data(root, FRAMES + 4, videos=3, prompts=1)


# --- the stages; each raises SystemExit if something is not as it should be ---


def licences(machine: Machine) -> None:
    """Before a login and a licence, all of them are asked for at once; later the one that lacks."""
    hub = machine.hub
    hub.accepted.clear()
    links = []
    for name in ("Cosmos-Predict2.5-2B", "Cosmos-1.0-Guardrail", "Cosmos-Reason2-"):
        links.append(f"its licence is not accepted. Accept it at {hub.endpoint}/nvidia/{name}")
    machine.types(machine.lora, 2, *links)
    machine.types(f"hf auth login --token {TOKEN}", 0)
    hub.accepted |= GATED - {"nvidia/Cosmos-1.0-Guardrail"}
    said = machine.types(machine.doctor, 1, links[1])
    if said.count("is not accepted") != 1:
        raise SystemExit("a licence that is accepted is asked for")
    hub.accepted |= GATED


def plan(machine: Machine) -> None:
    """Without the guardrail's package, and with it."""
    machine.types(machine.lora, 2, "pip install --no-deps cosmos_guardrail", PYTHONPATH=str(machine.work / "house"))
    machine.types(machine.doctor, 0, "the hub gives")
    machine.types(machine.plan, 0, "trainable parameters")


def stops(machine: Machine) -> None:
    """In the download: a disk that is full, Ctrl-C, and a start without a network after it."""
    machine.types(machine.lora, 1, "cannot be written", "then run the same command again", file_bytes=2**18)
    machine.hub.seconds_a_piece = 0.5
    process = machine.start(machine.lora)
    count = len(machine.hub.requests)
    while not any(path.startswith("/cdn") for _, path, _, _ in machine.hub.requests[count:]):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    machine.check(process, 1, "the same command downloads the files that are not complete")
    if left := list(machine.work.rglob("*.incomplete")):
        raise SystemExit(f"left behind: {left}")
    print(f"ended {time.monotonic() - began:.1f} s after Ctrl-C")
    machine.hub.seconds_a_piece = 0.0
    machine.types(machine.lora, 2, "HF_HUB_OFFLINE is set", HF_HUB_OFFLINE="1")


def lora(machine: Machine) -> None:
    """The run, in whose download a connection breaks in the middle of a file."""
    machine.hub.breaks = {"face_blur_filter/Resnet50_Final.pth": 1}
    machine.types(machine.lora, 0)
    if not any(asked and status == 206 for _, _, asked, status in machine.hub.requests):
        raise SystemExit("no download was resumed in the middle of a file")
    finished(machine.runs()[-1], "physics", "instruction")


def dora(machine: Machine) -> None:
    """DoRA, and the table of both."""
    machine.types(machine.dora, 0)
    finished(machine.runs()[-1], "physics", "instruction")
    machine.types("cosmos-exp report outputs", 0, "dora", "lora")


def published(machine: Machine) -> None:
    """An adapter on the hub."""
    machine.types(f"cosmos-exp publish {machine.runs()[-1].path} --to ann/rehearsal", 0, "uploaded: ")
    files = machine.hub.uploaded["ann/rehearsal"]
    if not any(name.endswith("pytorch_lora_weights.safetensors") for name in files):
        raise SystemExit(f"the hub has {sorted(files)}")


def offline(machine: Machine) -> None:
    """A second start without a network."""
    count = len(machine.hub.requests)
    machine.types(machine.doctor, 0, "nothing is to be downloaded", HF_HUB_OFFLINE="1")
    machine.types(f"cosmos-exp run run_dir={machine.runs()[-1].path}", 0, HF_HUB_OFFLINE="1")
    if len(machine.hub.requests) != count:
        raise SystemExit(f"asked the hub: {machine.hub.requests[count:]}")


STAGES = (licences, plan, stops, lora, dora, published, offline)
SHORT = (licences, lora)


def rehearse(machine: Machine, stages: Iterable[Callable[[Machine], None]]) -> None:
    """Go through the stages."""
    for stage in stages:
        print(f"\n--- {stage.__name__}: {stage.__doc__}", flush=True)
        stage(machine)


def main() -> int:
    """Rehearse in an empty folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", help=f"default: {' '.join(stage.__name__ for stage in STAGES)}")
    parser.add_argument("--folder", type=Path, help="to keep; default: a temporary one")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, machine_and_hub(args.folder or Path(temporary)) as machine:
        chosen = [stage for stage in STAGES if not args.stages or stage.__name__ in args.stages]
        rehearse(machine, chosen)
    print(f"\nrehearsed in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
