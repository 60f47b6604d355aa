#!/usr/bin/env bash
# Checks and times everything for one GPU in under ten minutes; writes results/train_<device>_<date> and the others as .md and .json.
#
#   benchmarks/gpu.sh                         the full 2B size with random weights (same cost as the real ones)
#   benchmarks/gpu.sh --tiny                  the same walk over the embedded model on the CPU: a test of itself
#   benchmarks/gpu.sh --python PATH --out DIR another interpreter, another place for the results
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python} out=benchmarks/results
model=2b device=cuda repeats=5 videos=1 steps=6 policies=auto,selective,full
while [ $# -gt 0 ]; do
    case $1 in
        --tiny) model=tabletop device=cpu repeats=2 videos=1 steps=2 policies=none,selective; shift ;;
        --python) python=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        *) sed -n '2,6p' "$0"; exit 2 ;;
    esac
done
began=$SECONDS
say() { echo "== $1 ($((SECONDS - began)) s)"; }

compile=()
if [ "$device" = cuda ]; then
    compile=(--compile)
    "$python" -c 'import torch, sys; sys.exit(0 if torch.cuda.is_available() else "no GPU here; --tiny walks through on the CPU")'
    say "equality on the GPU"
    "$python" -m pytest -q -m gpu tests/test_fast_transformer.py
fi
say "training"
"$python" benchmarks/train_step.py --models $model --device $device --kinds lora,dora --repeats $repeats \
    --checkpointing $policies "${compile[@]}" --name "train_${model}_$device" --out "$out"
if [ "$device" = cuda ]; then
    say "training within 24 GB"
    "$python" benchmarks/train_step.py --models $model --device cuda --kinds lora --repeats 3 --compile --checkpointing auto \
        --override hardware.memory_gb=24 --name "train24gb_$model" --out "$out"
fi
say "generation"
"$python" benchmarks/generate.py --models $model --device $device --repeats $videos --steps $steps "${compile[@]}" \
    --name "generate_${model}_$device" --out "$out"
say "done"
