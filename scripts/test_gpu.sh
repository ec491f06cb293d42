#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the tests of the CUDA backend for the GPU of this machine and runs them, alone and under
# compute-sanitizer; a table of what came of it is printed last. Takes less than 10 minutes and no
# network: what the tests need must be there (CMAKE_PREFIX_PATH is where else CMake looks).
# usage: test_gpu.sh [BUILD_DIRECTORY]   (default: build/gpu)
# Ends with 0 if everything passed, with 77 if there is no GPU, else with 1.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${1:-build/gpu}
limit=585 # seconds for everything
mkdir -p "$build"

names=() results=() times=() details=()
record() {
    names+=("$1") results+=("$2") times+=("$3") details+=("$4")
}

# The table, and the end of the script.
summary() {
    local i all=passed
    [[ " ${results[*]} " == *" skipped "* ]] && all=skipped
    [[ " ${results[*]} " == *" FAILED "* ]] && all=FAILED
    names+=(all) results+=("$all") times+=("$SECONDS") details+=("")
    echo
    printf '%-28s %-8s %8s  %s\n' step result seconds detail
    for i in "${!names[@]}"; do
        printf '%-28s %-8s %8s  %s\n' "${names[i]}" "${results[i]}" "${times[i]}" "${details[i]}"
    done
    case $all in
        passed) exit 0 ;;
        skipped) exit 77 ;;
        *) exit 1 ;;
    esac
}

# step NAME COMMAND...: runs it within what is left of the time. Exit code 77 is "skipped".
step() {
    local name=$1 start=$SECONDS left=$((limit - SECONDS)) status log
    log=$build/$(tr -c 'a-z0-9\n' _ <<<"$name").log
    if ((left < 5)); then
        record "$name" FAILED 0 "not run: the time is up"
        return 1
    fi
    echo "=== $name"
    timeout "$left" "${@:2}" >"$log" 2>&1
    status=$?
    case $status in
        0) record "$name" passed $((SECONDS - start)) "$(detail "$log")" ;;
        77) record "$name" skipped $((SECONDS - start)) "$(tail -n 1 "$log")" ;;
        124) record "$name" FAILED $((SECONDS - start)) "stopped: the time is up ($log)" ;;
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

generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
step configure cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DMOR_CUDA=ON \
    "-DCMAKE_CUDA_COMPILER=$nvcc" "-DCMAKE_CUDA_ARCHITECTURES=$architecture-real" || summary
step "build for sm_$architecture" \
    cmake --build "$build" --target tests_gpu --parallel "$(nproc)" || summary

tests=$build/tests/cuda
for name in errors system backends bfloat16 memory memory_bfloat16 graphs model parity; do
    step "$name" "$tests/cuda_${name}_test"
done
step "example" "$build/examples/cuda_hello"

sanitizer=$(command -v compute-sanitizer || echo "$(dirname "$nvcc")/compute-sanitizer")
if [[ ! -x $sanitizer ]]; then
    record "compute-sanitizer" FAILED 0 "neither in PATH nor beside nvcc: nothing was sanitized"
    summary
fi
# The small cases: all of the device's own code, and every operation once for each element type. What
# provokes errors of the runtime on purpose is left out, for memcheck reports them.
for tool in memcheck racecheck initcheck; do
    for name in system backends bfloat16 memory; do
        step "$tool: $name" "$sanitizer" --tool "$tool" --error-exitcode 1 \
            "$tests/cuda_${name}_test" --test-case-exclude='*is an error*'
    done
done
summary
