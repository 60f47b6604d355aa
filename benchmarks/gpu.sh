#!/usr/bin/env bash
# Checks and times everything for one GPU in under ten minutes; writes results/<model>_<device>_<date>.md and .json.
#
#   benchmarks/gpu.sh                                     the full 2B size with random weights (same cost as the real ones)
#   benchmarks/gpu.sh --reference PATH/train_cosmos_predict25_lora.py      and the reference's own script beside it
#   benchmarks/gpu.sh --tiny                              the same walk over the embedded model on the CPU: a test of itself
#   benchmarks/gpu.sh --python PATH --out DIR             another interpreter, another place for the results
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python} reference="" out=benchmarks/results
model=2b device=cuda repeats=5 videos=1 steps=6 policies=auto,selective,full size=2b
while [ $# -gt 0 ]; do
    case $1 in
        --tiny) model=tabletop device=cpu repeats=2 videos=1 steps=2 policies=none,selective size=tiny; shift ;;
        --reference) reference=$2; shift 2 ;;
        --python) python=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        *) sed -n '2,7p' "$0"; exit 2 ;;
    esac
done
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
began=$SECONDS
say() { echo "== $1 ($((SECONDS - began)) s)"; }

if [ "$device" = cuda ]; then
    "$python" -c 'import torch, sys; sys.exit(0 if torch.cuda.is_available() else "no GPU here; --tiny walks through on the CPU")'
    say "equality on the GPU"
    "$python" -m pytest -q -m gpu tests/test_fast_transformer.py
fi
say "training"
compile=(--compile); [ "$device" = cpu ] && compile=()
"$python" benchmarks/train_step.py --models $model --device $device --kinds lora,dora --repeats $repeats --warm-up 2 \
    --checkpointing $policies "${compile[@]}" --name train --out "$work"
if [ "$device" = cuda ]; then
    say "training within 24 GB"
    "$python" benchmarks/train_step.py --models $model --device cuda --kinds lora --repeats 3 --compile --checkpointing auto \
        --override hardware.memory_gb=24 --name train24gb --out "$work"
fi
say "generation"
"$python" benchmarks/generate.py --models $model --device $device --repeats $videos --steps $steps "${compile[@]}" \
    --name generate --out "$work"
if [ -n "$reference" ]; then
    say "the reference's own script"
    WANDB_MODE=offline "$python" benchmarks/run_reference.py "$reference" --size $size --steps $repeats --out "$work/reference.json"
fi
say "writing"
"$python" benchmarks/collect.py "$work" --model $model --device $device --out "$out"
say "done"
