#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the benchmarks of serving and runs them, 30 to 40 minutes on two cores, five of them for bubbles
# and profile; their reports go to benchmarks/results/. Leave the machine alone meanwhile.
# make_serving_page.py makes docs/results/serving.md of them. The trained models are those that
# quickstart.sh made.
# usage: run_serving_benchmarks.sh [QUICKSTART_RESULTS]   (default: quickstart-results)
set -euo pipefail
trained=$(realpath -m "${1:-quickstart-results}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ ! -d $trained/mor_token_choice ]]; then
    echo "run_serving_benchmarks: no models in $trained: run scripts/quickstart.sh first" >&2
    exit 1
fi
scripts/install_dependencies.sh build benchmark
cmake --preset release -DMOR_BUILD_BENCHMARKS=ON
cmake --build --preset release --parallel "$(nproc)" \
    --target benchmark_serve_{throughput,latency,trained}
commit=$(git rev-parse --short HEAD)
[[ -z $(git status --porcelain -- include 'benchmarks/*.[ch]pp') ]] || commit+=-dirty

# measure NAME PROGRAM ARGUMENT...: the program's last argument is where its report goes.
measure() {
    local report=benchmarks/results/$1.json
    "build/release/benchmarks/$2" "${@:3}" "$report"
    python3 - "$report" "$commit" <<'PYTHON'
import json, pathlib, sys
path = pathlib.Path(sys.argv[1])
report = {"commit": sys.argv[2], **json.loads(path.read_text())}
text = json.dumps(report, indent=1)
path.write_text(text + "\n")
PYTHON
}
measure serve_throughput_135M serve_throughput 135M 128 28
measure serve_throughput_360M serve_throughput 360M 128 18
measure serve_trained serve_trained "$trained" 200 128
measure serve_latency_135M serve_latency 135M 40
measure serve_latency_360M serve_latency 360M 20
# Its times are not of interest.
measure serve_throughput_narrow serve_throughput narrow 1000 256
if command -v perf >/dev/null; then
    results=$PWD/benchmarks/results
    cd build/release/benchmarks
    python3 ../../../scripts/profile.py "$results/serve_profile.json" \
        ./serve_throughput 135M 96 16 OUTPUT.json 'MoR 3'
    rm OUTPUT.json
else
    echo "run_serving_benchmarks: no perf: serve_profile.json stays as it is" >&2
fi
