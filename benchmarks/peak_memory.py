#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The most memory that training takes, as the system counts it: every model of benchmark `train_step` in a
process of its own, which draws the weights, makes two updates and then two more.

Needs the benchmark (scripts/run_benchmarks.sh builds it).
usage: peak_memory.py OUTPUT.json
"""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks/peers"))
import peer  # which lies there

PROGRAM = ROOT / "build" / "release" / "benchmarks" / "train_step"


def peak_bytes(name):
    process = subprocess.Popen([PROGRAM, f"--benchmark_filter=^{name}$"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"peak_memory: {name} failed")
    return 1024 * usage.ru_maxrss


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__.splitlines()[-1])
    names = peer.run(PROGRAM, "--benchmark_list_tests").split()
    report = {
        "commit": peer.commit(ROOT),
        **peer.machine(),
        "models": [{"name": name, "peak_bytes": peak_bytes(name)} for name in names],
    }
    peer.write(report, sys.argv[1])


if __name__ == "__main__":
    main()
