#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures llama.cpp at the dense shapes of SmolLM: prefill of 512 tokens, and decode of one token
for each of 1, 8 and 32 sequences of 64 tokens. Random weights; llama.cpp's own benchmark programs.

The first run takes the newest source that the Python package index offers (llama-cpp-python carries
llama.cpp), builds it for this machine into the scratch folder, and writes the models there: it needs
a C++ compiler, CMake and 5 GB. Later runs use what is there; a newer version comes after
the folder is removed. beside.py measures it turn by turn with this library.

Prints tokens/s, the median of the repetitions in one process.
usage: llama_cpp.py --case {prefill,decode1,decode8,decode32} [--shape {135M,360M}] [--dtype {f32,bf16}]
                    [--threads 2] [--repetitions 3] [--scratch DIR] [--jobs 2]
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import sys
import tarfile

import peer

CONTEXT, STEPS = 64, 32  # tokens that each sequence has before decode, and gets in it
DTYPES = ("f32", "bf16")
CASES = {"prefill": 1, "decode1": 1, "decode8": 8, "decode32": 32}  # sequences
PACKAGE = "llama-cpp-python"
CMAKE = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_NATIVE": "ON",
    "GGML_OPENMP": "ON",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_SERVER": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_OPENSSL": "OFF",
}


class Llama:
    """A built llama.cpp and its models, in a scratch folder."""

    def __init__(self, scratch, jobs):
        folder = scratch / "llama_cpp"
        self.build = folder / "build"
        self.models = {
            (shape, dtype): folder / f"smollm-{shape}-{dtype}.gguf" for shape in peer.SHAPES for dtype in DTYPES
        }
        found = [path for path in folder.glob("llama_cpp_python-*") if path.is_dir()]
        self.source = found[0] if found else self.download(folder)
        if not self.program("llama-batched-bench").exists():
            self.compile(jobs)
        for (shape, dtype), model in self.models.items():
            if not model.exists():
                python = peer.virtual_environment(folder / "venv", "gguf", "numpy")
                script = pathlib.Path(__file__).with_name("write_gguf.py")
                peer.run(python, script, shape, dtype, model)

    @staticmethod
    def download(folder):
        print(f"downloading {PACKAGE}", file=sys.stderr)
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps")
        peer.run(*pip, "--no-binary", PACKAGE, "--dest", folder, PACKAGE)
        [archive] = folder.glob("llama_cpp_python-*.tar.gz")
        with tarfile.open(archive) as contents:
            contents.extractall(folder, filter="data")
        return folder / archive.name.removesuffix(".tar.gz")

    def compile(self, jobs):
        print("building llama.cpp", file=sys.stderr)
        options = [f"-D{name}={value}" for name, value in CMAKE.items()]
        source = self.source / "vendor" / "llama.cpp"
        peer.run("cmake", "-S", source, "-B", self.build, *options)
        targets = ("--target", "llama-bench", "llama-batched-bench")
        peer.run("cmake", "--build", self.build, "--parallel", jobs, *targets)

    def program(self, name):
        return self.build / "bin" / name

    def describe(self):
        changes = (self.source / "CHANGELOG.md").read_text(encoding="utf-8")
        commit = re.search(r"llama\.cpp@([0-9a-f]+)", changes)
        cache = (self.build / "CMakeCache.txt").read_text(encoding="utf-8")
        compiler = re.search(r"^CMAKE_CXX_COMPILER:\w+=(.+)$", cache, re.MULTILINE)[1]
        return {
            "peer": "llama.cpp",
            "commit": commit[1] if commit else "unknown",
            "package": self.source.name.replace("llama_cpp_python-", PACKAGE + " "),
            "compiler": peer.run(compiler, "--version").splitlines()[0],
            "options": CMAKE,
        }

    def measure(self, shape, case, dtype, threads, repetitions):
        """Tokens a second of each repetition in one process, after its warm-up."""
        model = ("--model", self.models[shape, dtype], "--threads", threads, "--flash-attn")
        environment = peer.clean_environment()
        if case == "prefill":
            sizes = ("on", "-p", peer.PROMPT, "-n", 0, "-r", repetitions, "--output", "json")
            [row] = json.loads(peer.run(self.program("llama-bench"), *model, *sizes, env=environment))
            return row["samples_ts"]
        sequences = CASES[case]
        sizes = ("-npp", CONTEXT, "-ntg", STEPS, "-npl", ",".join([str(sequences)] * repetitions))
        cache = ("-c", sequences * (CONTEXT + STEPS), "--output-format", "jsonl")
        printed = peer.run(
            self.program("llama-batched-bench"), *model, "on", *sizes, *cache, env=environment
        )
        lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        return [line["speed_tg"] for line in lines]


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--shape", choices=peer.SHAPES, default="135M")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--scratch", type=pathlib.Path, default=peer.SCRATCH)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    llama = Llama(arguments.scratch, arguments.jobs)
    values = llama.measure(
        arguments.shape, arguments.case, arguments.dtype, arguments.threads, arguments.repetitions
    )
    print(round(statistics.median(values), 2))


if __name__ == "__main__":
    main()
