#!/usr/bin/env bash
# Installs the wheel without the constraints file, on the newest and on the lowest versions that pyproject.toml allows,
# makes a small run and its report, and prints a row of a table.
#     bash benchmarks/versions.sh highest /path/to/python3.13 [/path/to/python3.12 …]
#     bash benchmarks/versions.sh lowest-direct /path/to/python3.11
# It takes uv (in .venv/bin after `make test`), 8 GB of disk and 3 minutes a row. Results: benchmarks/results/versions.md
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
uv=${UV:-$root/.venv/bin/uv}
resolution=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$uv" build --quiet --wheel --out-dir "$work" "$root"
export COSMOS_EXP_CACHE=$work/cache WANDB_MODE=offline
unset PYTHONPATH
small=(data.train_clips=4 data.validation_videos=1 data.test_pairs=1 data.windows_per_video=1 generation.num_steps=2
    training.global_batch_size=2 training.max_steps=4 training.validation.every_steps=2 training.schedule.warmup_samples=2)
for python in "$@"; do
    rm -rf "$work/env"
    "$uv" venv --quiet --python "$python" "$work/env"
    "$uv" pip install --quiet --python "$work/env/bin/python" --resolution "$resolution" --requirement "$root/pyproject.toml"
    "$uv" pip install --quiet --python "$work/env/bin/python" --no-deps "$work"/*.whl
    result=runs
    cd "$work"
    "$work/env/bin/cosmos-exp" run experiment=demo adapter=dora rank=8 "${small[@]}" run_dir="$work/run-$RANDOM" \
        >run.log 2>&1 && "$work/env/bin/cosmos-exp" report "$(ls -td run-* | head -1)" >report.log 2>&1 || result="fails: $(tail -1 run.log)"
    "$work/env/bin/python" - "$resolution" "$result" <<'PY'
import platform
import sys
from importlib.metadata import version

names = ["torch", "diffusers", "transformers", "peft", "accelerate", "av", "opencv-python-headless", "numpy", "pandas"]
names += ["pydantic", "hydra-core", "wandb"]
versions = ", ".join(f"{name} {version(name)}" for name in names)
print(f"| {platform.python_version()} | {sys.argv[1]} | {versions} | {sys.argv[2]} |")
PY
done
