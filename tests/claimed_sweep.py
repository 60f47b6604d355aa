"""A finished sweep with frozen claims, written by a script: run folders with scores, videos and the hashes of both."""

from dataclasses import replace

import numpy as np

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.measures import LIMITS
from cosmos_exp.config.record import save_config
from cosmos_exp.data.video import write_video
from cosmos_exp.files import write_json, write_json_lines
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.intervals import summarize
from cosmos_exp.sweep.frozen_claims import freeze_claims, frozen_plan

ARMS = {"base": ("none", 32), "lora-r8": ("lora", 8), "lora-r32": ("lora", 32)}
SEEDS = {"base": [0], "lora-r8": [0, 1, 2], "lora-r32": [0]}
CLAIMS = ["instruction: lora-r8 > base", "instruction: lora-r8 < lora-r32 by -2", "physics: lora-r8 > base by 0.5"]
MEANS = {"instruction": {"base": 2.0, "lora-r8": 3.0, "lora-r32": 3.5}, "physics": dict.fromkeys(ARMS, 3.0)}
PROMPTS = {f"p{k}": f"Lift {k}" for k in range(8)}


def config_of(arm, seed=0):
    """The configuration of a run; the embedded world with one noise."""
    kind, rank = ARMS[arm]
    values = {"adapter.kind": kind, "adapter.rank": rank, "adapter.alpha": float(rank), "seed": seed}
    return config_of.first.updated(values)


config_of.first = compose_config(["tracking=none"])


def arms(seeds=SEEDS):
    """Every arm with its configuration and training seeds."""
    return {name: (config_of(name), own) for name, own in seeds.items()}


def write_run(folder, arm, seed, shift=0.0, changes=None):
    """A finished run whose scores are around MEANS (plus `shift`), with the hashes that the evaluation records."""
    run = RunFolder(folder)
    run.path.mkdir(parents=True)
    save_config(config_of(arm, seed).updated(changes or {}), run.config)
    rng = np.random.default_rng([seed, *map(ord, arm)])
    rows = []
    for k, name in enumerate(PROMPTS):
        row = {"sample": name, "seed": 0, "prompt": PROMPTS[name], "video": f"{name}__seed0.mp4"}
        for measure, means in MEANS.items():
            value = means[arm] + shift + 0.1 * (k % 3) + 0.1 * rng.standard_normal()
            rows.append(row | {"measure": measure, "value": value, "detail": {"judge": "rules"}})
        write_video(run.video(name, 0), np.zeros((3, 32, 32, 3), np.uint8), 8)
    write_json_lines(run.scores, rows)
    write_json(run.metrics, {"training": {"train_loss": 0.505}, "measures": summarize(rows, limits=LIMITS)})
    losses = [0.7] * 18 + [0.51, 0.5]  # the mean of the last tenth: 0.505
    write_json_lines(run.train_log, [{"step": s, "loss": x} for s, x in enumerate(losses, 1)])
    run.update_manifest(
        config_hash=stage_hash(config_of(arm, seed)),
        data={"test": list(PROMPTS), "scenes": {n: n for n in PROMPTS}},
        trained={"files": run.hashes([run.train_log])},
        evaluated={"scores": run.hashes([run.scores]), "videos": run.hashes(run.videos.iterdir())},
    )
    run.set_status("done", "record")


def plan(claims=tuple(CLAIMS), seeds=SEEDS):
    """The plan of the sweep, without rendering its prompts."""
    measures = {c.split(":")[0]: {"better": 1, "unit": "1 to 5"} for c in claims}
    own = {"claims": list(claims), "measures": measures, "prompts": PROMPTS, "scenes": {p: p for p in PROMPTS}}
    return replace(frozen_plan([], arms(seeds)), **own)


def write_sweep(folder, claims=tuple(CLAIMS), seeds=SEEDS):
    """The whole sweep. Claims are frozen before the first score."""
    freeze_claims(folder, plan(claims, seeds=seeds))
    for arm, own in seeds.items():
        for seed in own:
            write_run(folder / (f"{arm}-seed{seed}" if seed else arm), arm, seed)
    return folder
