#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the tests and benchmarks of the CUDA backend for the GPU of this machine, runs the tests, alone
# and under compute-sanitizer, then the benchmarks, beside PyTorch if Python has it (PEER_PYTHON is which
# Python, else python3). Reports go to benchmarks/results/cuda_*.json. One table of what came of it all is
# printed last. Takes less than 10 minutes and no network: what the programs need must be there
# (CMAKE_PREFIX_PATH is where else CMake looks).
# usage: test_gpu.sh [BUILD_DIRECTORY [all|tests|benchmarks]]   (default: build/gpu all)
# With a part alone, it has all of the time. Ends with 0 if everything passed, with 77 if there is no GPU,
# else with 1; a goal that is missed is no failure.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
build=${1:-build/gpu}
part=${2:-all}
if [[ ! $part =~ ^(all|tests|benchmarks)$ ]]; then
    echo "usage: test_gpu.sh [BUILD_DIRECTORY [all|tests|benchmarks]]" >&2
    exit 1
fi
limit=585 # seconds for everything
mkdir -p "$build"
steps=$build/steps.tsv
: >"$steps"

record() {
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$steps"
}

# The table, and the end of the script.
summary() {
    local all=passed
    cut -f 2 "$steps" | grep -qx skipped && all=skipped
    cut -f 2 "$steps" | grep -qx FAILED && all=FAILED
    record all "$all" "$SECONDS" ""
    echo
    python3 scripts/cuda_table.py "$steps" "$build/models.json" "$build/torch.json" || cat "$steps"
    case $all in
        passed) exit 0 ;;
        skipped) exit 77 ;;
        *) exit 1 ;;
    esac
}

# step END NAME COMMAND...: runs it, at most until END. Exit code 77 is "skipped".
step() {
    local end=$1 name=$2 start=$SECONDS left=$(($1 - SECONDS)) status log
    log=$build/$(tr -c 'a-z0-9\n' _ <<<"$name").log
    if ((left < 5)); then
        record "$name" FAILED 0 "not run: the time is up"
        return 1
    fi
    echo "=== $name"
    timeout -k 5 "$left" "${@:3}" >"$log" 2>&1
    status=$?
    case $status in
        0) record "$name" passed $((SECONDS - start)) "$(detail "$log")" ;;
        77) record "$name" skipped $((SECONDS - start)) "$(tail -n 1 "$log")" ;;
        124 | 137) record "$name" FAILED $((SECONDS - start)) "stopped at second $end ($log)" ;;
        *)
            record "$name" FAILED $((SECONDS - start)) "exit code $status ($log)"
            tail -n 40 "$log"
            ;;
    esac
    return "$status"
}

# What doctest counted, or what the sanitizer found.
detail() {
    sed -n 's/^\[doctest\] test cases: *\([0-9]*\) | *\([0-9]*\) passed.*/\1 cases, \2 passed/p;
        s/^========= \(ERROR SUMMARY\|RACECHECK SUMMARY\): */\1: /p' "$1" | paste -sd ';' -
}

# run_tests END
run_tests() {
    local end=$1 tests=$build/tests/cuda sanitizer tool name
    for name in errors system backends bfloat16 memory memory_bfloat16 graphs model model_bfloat16 loss_curve parity; do
        step "$end" "$name" "$tests/cuda_${name}_test"
    done
    step "$end" "example" "$build/examples/cuda_hello"

    sanitizer=$(command -v compute-sanitizer || echo "$(dirname "$nvcc")/compute-sanitizer")
    if [[ ! -x $sanitizer ]]; then
        record "compute-sanitizer" FAILED 0 "neither in PATH nor beside nvcc: nothing was sanitized"
        return
    fi
    # The small cases: all of the device's own code, and every operation once for each element type. What
    # provokes errors of the runtime on purpose is left out, for memcheck reports them. Shared memory, of
    # which racecheck is, is used by the same kernels in the other programs.
    local -A sanitized=([memcheck]="system backends bfloat16 memory graphs" [racecheck]="system backends bfloat16"
        [initcheck]="system backends bfloat16 memory graphs")
    for tool in memcheck racecheck initcheck; do
        for name in ${sanitized[$tool]}; do
            step "$end" "$tool: $name" "$sanitizer" --tool "$tool" --error-exitcode 1 \
                "$tests/cuda_${name}_test" --test-case-exclude='*is an error*'
        done
    done
}

# A report in which something was measured takes the place of the last one in benchmarks/results/.
publish() {
    if grep -qs tokens_per_second "$build/$1.json"; then
        cp "$build/$1.json" "benchmarks/results/cuda_$1.json"
    fi
}

run_benchmarks() {
    local python=${PEER_PYTHON:-python3} left commit has_torch=
    timeout -k 5 60 "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null &&
        has_torch=1
    left=$((limit - SECONDS))
    commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
    [[ -z $(git status --porcelain -- include 'benchmarks/*.[ch]pp' 2>/dev/null) ]] || commit+=-dirty
    # Ours begins no case shortly before it would be stopped in the middle of it; PyTorch's stops itself.
    local own=$((has_torch ? left * 55 / 100 : left))
    step $((SECONDS + own)) "benchmarks" "$build/benchmarks/cuda/device/cuda" --out "$build/models.json" \
        --seconds $((own > 40 ? own - 30 : own / 2)) --commit "$commit" \
        --driver "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)"
    publish models
    if [[ ! $has_torch ]]; then
        record "PyTorch" "none" 0 "no PyTorch here that can use the GPU"
        return
    fi
    left=$((limit - SECONDS))
    step "$limit" "PyTorch" "$python" -B benchmarks/peers/torch_gpu.py "$build/torch.json" --commit "$commit" \
        --seconds $((left > 40 ? left - 20 : left / 2))
    publish torch
}

rm -f "$build/models.json" "$build/torch.json"
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1)
if [[ ! $capability =~ ^[0-9]+\.[0-9]+$ ]]; then
    record "a GPU" skipped 0 "nvidia-smi finds none: nothing was run"
    summary
fi
architecture=${capability/./}
[[ $architecture == 90 ]] && architecture=90a
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv

nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
if [[ ! -x $nvcc ]]; then
    record "nvcc" FAILED 0 "neither in PATH nor in /usr/local/cuda/bin"
    summary
fi

target=tests_gpu
[[ $part == benchmarks ]] && target=benchmark_cuda
generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
step "$limit" configure cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DMOR_CUDA=ON \
    "-DCMAKE_CUDA_COMPILER=$nvcc" "-DCMAKE_CUDA_ARCHITECTURES=$architecture-real" || summary
step "$limit" "build for sm_$architecture" \
    cmake --build "$build" --target "$target" --parallel "$(nproc)" || summary
case $part in
    all) # half of what building has left for each
        run_tests $((SECONDS + (limit - SECONDS) / 2))
        run_benchmarks
        ;;
    tests) run_tests "$limit" ;;
    benchmarks) run_benchmarks ;;
esac
summary
