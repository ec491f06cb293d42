#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times how long programs that include the library take to compile, and how much memory it takes.

usage: compile_time.py OUTPUT.json [COMPILER]   (default: g++)
"""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks/peers"))
import peer  # which lies there

INCLUDES = [f"-I{ROOT}/include", "-isystem", "/usr/include/eigen3"]
FLAGS = ["-std=c++20", "-march=native"]
REPETITIONS = 5

MODEL = """#include <mor/mor.hpp>
int main() {
    mor::Cpu<float> cpu;
    mor::Model<mor::MoRExpert<>, mor::Cpu<float>> model{cpu};
    return model.num_parameters() > 0 ? 0 : 1;
}
"""
GENERATES = """#include <mor/{header}.hpp>
#include <vector>
int main() {{
    mor::Cpu<float> cpu;
    mor::Model<mor::MoRExpert<>, mor::Cpu<float>> model{{cpu}};
    const std::vector<mor::TokenId> prompt{{1, 2}};
    return mor::generate(model, prompt, {{}}).tokens.empty() ? 1 : 0;
}}
"""
PROGRAMS = {
    "empty": ("-O2", "int main() {}\n"),
    "Eigen/Dense": ("-O2", "#include <Eigen/Dense>\nint main() {}\n"),
    "mor/mor.hpp": ("-O2", "#include <mor/mor.hpp>\nint main() {}\n"),
    "one model": ("-O3", MODEL),
    "one model that generates": ("-O3", GENERATES.format(header="mor")),
    "the same, compiled in mor::instances": ("-O3", GENERATES.format(header="instances")),
    "examples/hello.cpp": ("-O3", (ROOT / "examples/hello.cpp").read_text()),
}


def compile_once(command):
    """Returns seconds and peak megabytes of the compiler."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"compile_time: {' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main():
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__.splitlines()[-1])
    compiler = sys.argv[2] if len(sys.argv) == 3 else "g++"
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    commit = peer.commit(ROOT)
    results = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "program.cpp")
        for _ in range(REPETITIONS):
            for name, (level, text) in PROGRAMS.items():
                source.write_text(text)
                command = [compiler, *FLAGS, level, *INCLUDES, "-c", str(source)]
                results[name].append(compile_once(command + ["-o", str(pathlib.Path(folder, "program.o"))]))
    report = {
        "commit": commit,
        **peer.machine(),
        "compiler": version,
        "flags": FLAGS,
        "repetitions": REPETITIONS,
        "programs": [
            {
                "name": name,
                "level": PROGRAMS[name][0],
                "seconds": statistics.median(s for s, _ in runs),
                "peak_megabytes": statistics.median(m for _, m in runs),
            }
            for name, runs in results.items()
        ],
    }
    pathlib.Path(sys.argv[1]).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
