#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds benchmarks and runs them; their reports go to benchmarks/results/. Leave the machine alone
# meanwhile. docs/performance.md is made of the reports by make_performance_page.py.
# usage: run_benchmarks.sh [NAME]...   (default: block cache decode ops prefill routing
#        selection selection_portable train_step)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/install_dependencies.sh build benchmark
cmake --preset release -DMOR_BUILD_BENCHMARKS=ON
names=("${@:-block cache decode ops prefill routing selection selection_portable train_step}")
read -ra names <<<"${names[*]}"
cmake --build --preset release --parallel "$(nproc)" --target "${names[@]/#/benchmark_}"
commit=$(git rev-parse --short HEAD)
[[ -z $(git status --porcelain -- include 'benchmarks/*.[ch]pp') ]] || commit+=-dirty
for name in "${names[@]}"; do
    report="benchmarks/results/$name.json"
    # The others say themselves how often they run.
    case $name in
        ops | selection* | train_step) repeated=(--benchmark_repetitions=5) ;;
        *) repeated=() ;;
    esac
    "build/release/benchmarks/$name" "${repeated[@]}" --benchmark_enable_random_interleaving=true \
        --benchmark_context=commit="$commit" \
        --benchmark_out="$report" --benchmark_out_format=json
    # Which host it was and where its files lay is nobody's business.
    python3 - "$report" <<'PYTHON'
import json, pathlib, sys
path = pathlib.Path(sys.argv[1])
report = json.loads(path.read_text())
report["context"].pop("host_name", None)
report["context"]["executable"] = pathlib.Path(report["context"]["executable"]).name
path.write_text(json.dumps(report, indent=1) + "\n")
PYTHON
done
