"""`cosmos-exp generate`: videos from adapter files, one adapter after another with one loaded base model."""

from __future__ import annotations

import argparse
from pathlib import Path

from cosmos_exp.cli.arguments import add_overrides, add_shards, writable_folder
from cosmos_exp.errors import RunError, UserError

HELP = "videos from adapter files, one adapter after another in one process, or several at once"
EPILOG = """examples:
  cosmos-exp generate --adapter base outputs/sweeps/rank/lora-r8 --prompts pairs --out videos
  cosmos-exp generate --adapter a.safetensors b.safetensors --prompts pairs --out videos generation.seeds=[0,1]
  cosmos-exp generate --adapter RUN --prompts pairs --out videos model=cosmos_predict25_2b hardware=1xh100
  cosmos-exp generate --adapter RUN_A:0.7 RUN_B:0.3 --adapter RUN_A:0.5 --prompts pairs --out videos
  cosmos-exp generate --adapter RUN --prompts pairs --out videos --shards 8 hydra/launcher=slurm_1xh100

pairs/ holds NAME.png (the first frame) with NAME.txt (the prompt). Videos that exist are not made again."""

PAIRS = "Give a folder with NAME.png (the first frame) and NAME.txt (the prompt)."


def options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    help = "adapter files, adapter folders or run folders, one after another; `base`: no adapter; A:0.7 B:0.3: both at once"
    add("--adapter", nargs="+", action="append", required=True, metavar="FILE_OR_DIR", help=help)
    add("--prompts", required=True, metavar="DIR", help="test pairs: NAME.png with NAME.txt")
    add("--out", required=True, metavar="DIR", help="write the videos to DIR/<adapter>/")
    add("--alpha", type=float, help="alpha of adapter files that do not record it")
    add_shards(parser)
    add_overrides(parser, "configuration, e.g. model=cosmos_predict25_2b hardware=1xh100")


def run(args: argparse.Namespace) -> int:
    """Generate the videos and report each adapter when it is complete. Returns the exit code."""
    from cosmos_exp.cli.shards import run_shards
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.data.pairs import read_test_pairs
    from cosmos_exp.experiment.generate import adapter_tasks, find_adapters, load_pipeline_for

    config, out = compose_config(args.overrides), writable_folder(args.out)
    files = find_adapters(args.adapter)
    problems: list[str] = []
    if not Path(args.prompts).is_dir():
        raise UserError(f"--prompts {args.prompts}: no such folder. {PAIRS}")
    pairs = read_test_pairs(Path(args.prompts), problems)
    if not pairs:
        raise UserError("\n".join([*problems, f"--prompts {args.prompts}: {PAIRS}"]))
    if problems:
        raise RunError("\n".join(problems))
    number, count = args.shards
    tasks = adapter_tasks(config, files, pairs, out)
    if not number:
        return run_shards(args, out, [task.path for task in tasks], "video")
    tasks = tasks[number - 1 :: count]
    pipeline = load_pipeline_for(config, files, tasks, args.alpha)
    for name in files:
        its_tasks = [task for task in tasks if task.path.parent.name == name]
        made = pipeline.make(name, its_tasks)
        print(
            f"{name}: {made} videos generated, {len(its_tasks) - made} already existed, in {out / name}; "
            f"{pipeline.seconds:.2f} s to put it into the model"
        )
    return 0
