#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks which folder of include/mor includes which, and a few rules for every header.

usage: check_layers.py [ROOT]        check_layers.py --self-test
"""
import pathlib
import re
import sys
import tempfile

# What a folder, or a single file, may include besides its own folder. Every entry is a folder or a
# file below include/mor.
BLOCKS = {"layers", "sharing", "routing", "recursion", "cache", "ops", "core"}
ABOVE = BLOCKS | {"model", "train", "generate", "serve", "io", "checkpoint",
                            "testing"}
ALLOWED = {
    "core": set(),
    "ops": {"core"},
    "backends/host": {"ops", "core"},
    "backends/reference": {"ops", "core", "backends/host"},  # the oracle knows no other backend
    "backends/cpu": {"ops", "core", "backends/host"},
    "backends/cuda": {"ops", "core"},
    "layers": {"ops", "core", "model/config.hpp"},
    "sharing": {"core"},
    "recursion": {"ops", "core", "layers", "model/config.hpp"},
    "routing": {"ops", "layers", "core", "recursion", "model/config.hpp"},
    "cache": {"ops", "core", "layers", "sharing"},
    "model": BLOCKS,
    "model/config.hpp": {"core"},  # the blocks include it, so it includes none of them
    "train": BLOCKS | {"model"},
    "generate": BLOCKS | {"model"},
    "serve": BLOCKS | {"model", "generate"},
    "io": {"core"},
    "checkpoint": ABOVE,
    "testing": ABOVE - {"train"},
    "checkpoint.hpp": {"io", "checkpoint"},
    "mor.hpp": ABOVE - {"io", "checkpoint"} | {"backends/cpu"},  # needs no JSON
    "instances.hpp": {"mor.hpp", "fwd.hpp"},
    "fwd.hpp": set(),
    "config.hpp": set(),
    "version.hpp": set(),
}
FOR_EVERYONE = {"config.hpp", "version.hpp"}

# Which folders may include what is neither ours nor the standard library.
FOREIGN = {
    r"(unsupported/)?Eigen/": {"backends/cpu"},
    r"nlohmann/": {"io", "checkpoint"},
    r"(thrust|cub|cuda)/": {"backends/cuda"},
    r"[\w/]+\.h$": {"io", "checkpoint", "backends"},  # the operating system, intrinsics
}

MAX_LINES = 600
SPDX = "// SPDX-License-Identifier: Apache-2.0"
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def top(name):
    """'ops/linear.hpp' -> 'ops'; 'backends/cpu/cpu.hpp' -> 'backends/cpu'; 'mor.hpp' -> itself."""
    parts = name.split("/")
    return "/".join(parts[:2]) if parts[0] == "backends" else parts[0]


def include_problem(name, bracket, included):
    """Returns why header `name` may not include `included`, or None."""
    if bracket == '"':
        return f'write <mor/...>, not "{included}"'
    if included.startswith("mor/"):
        target = included.removeprefix("mor/")
        rules = ALLOWED.get(name, ALLOWED.get(top(name)))
        if rules is None:
            return f"'{top(name)}' is not in the table ALLOWED of check_layers.py"
        same_folder = name not in ALLOWED and top(target) == top(name)
        if same_folder or target in FOR_EVERYONE or {top(target), target} & rules:
            return None
        return f"may not include <{included}>"
    for pattern, folders in FOREIGN.items():
        if re.match(pattern, included):
            allowed = any(name.startswith(folder + "/") for folder in folders)
            return None if allowed else f"may not include <{included}>"
    return None if re.fullmatch(r"[a-z_]+", included) else f"unknown library <{included}>"


def header_problems(name, text):
    """Yields (line number, sentence) for each broken rule."""
    lines = text.splitlines()
    if "#pragma once" not in lines:
        yield 1, "has no '#pragma once'"
    if len(lines) > MAX_LINES:
        yield len(lines), f"has {len(lines)} lines, at most {MAX_LINES}"
    for number, line in enumerate(lines, 1):
        if re.match(r"using\s+namespace\b", line):  # inside a function it leaks nothing
            yield number, "'using namespace' in a header"
        match = INCLUDE.match(line)
        problem = match and include_problem(name, *match.groups())
        if problem:
            yield number, problem


def check(root):
    """Returns the sentences for everything below root, one per broken rule."""
    found = []
    headers = root / "include" / "mor"
    for path in sorted(headers.rglob("*.hpp")):
        for number, sentence in header_problems(path.relative_to(headers).as_posix(), path.read_text()):
            found.append(f"{path.relative_to(root)}:{number}: {sentence}")
    for folder in ("include", "tests", "examples", "benchmarks", "tools"):
        for path in sorted([*(root / folder).rglob("*.[ch]pp"), *(root / folder).rglob("*.cu")]):
            if path.read_text().split("\n", 1)[0] != SPDX:
                found.append(f"{path.relative_to(root)}:1: the first line is not '{SPDX}'")
    return found


def self_test():
    """Shows that each rule can fail, and that what is allowed passes."""
    def header(*lines):
        return "\n".join([SPDX, "#pragma once", *lines, ""])

    cases = [  # file, text, number of problems
        ("core/a.hpp", header("#include <vector>", "#include <mor/core/b.hpp>"), 0),
        ("core/a.hpp", header("#include <mor/config.hpp>"), 0),
        ("core/a.hpp", header("#include <mor/ops/b.hpp>"), 1),
        ("core/a.hpp", header("#include <sys/mman.h>"), 1),
        ("core/a.hpp", header("#include <boost/any.hpp>"), 1),
        ("core/a.hpp", header('#include "b.hpp"'), 1),
        ("ops/a.hpp", header("#  include <mor/backends/cpu/b.hpp>"), 1),
        ("sharing/a.hpp", header("#include <mor/routing/b.hpp>", "#include <mor/ops/b.hpp>"), 2),
        ("routing/a.hpp", header("#include <mor/layers/b.hpp>", "#include <mor/model/config.hpp>"), 0),
        ("routing/a.hpp", header("#include <mor/model/model.hpp>", "#include <mor/cache/b.hpp>"), 2),
        ("model/a.hpp", header("#include <mor/cache/b.hpp>", "#include <mor/model/b.hpp>"), 0),
        ("model/a.hpp", header("#include <mor/backends/cpu/b.hpp>"), 1),
        ("model/config.hpp", header("#include <mor/layers/b.hpp>", "#include <mor/model/a.hpp>"), 2),
        ("train/a.hpp", header("#include <mor/io/b.hpp>", "#include <nlohmann/json.hpp>"), 2),
        ("io/a.hpp", header("#include <nlohmann/json.hpp>", "#include <sys/mman.h>"), 0),
        ("checkpoint/a.hpp", header("#include <mor/io/b.hpp>", "#include <mor/model/b.hpp>"), 0),
        ("testing/a.hpp", header("#include <mor/train/b.hpp>", "#include <mor/backends/b.hpp>"), 2),
        ("backends/cpu/a.hpp", header("#include <Eigen/Core>"), 0),
        ("backends/reference/a.hpp", header("#include <Eigen/Core>"), 1),
        ("backends/cuda/a.hpp", header("#include <thrust/sort.h>"), 0),
        ("backends/cuda/a.hpp", header("#include <mor/backends/host/b.hpp>"), 1),
        ("ops/a.hpp", header("#include <thrust/sort.h>"), 1),
        ("mor.hpp", header("#include <mor/backends/cpu/a.hpp>", "#include <mor/train/b.hpp>"), 0),
        ("backends/reference/a.hpp", header("#include <mor/backends/host/b.hpp>"), 0),
        ("backends/reference/a.hpp", header("#include <mor/backends/cpu/b.hpp>"), 1),
        ("mor.hpp", header("#include <mor/io/b.hpp>"), 1),
        ("other/a.hpp", header("#include <mor/core/b.hpp>"), 1),
        ("core/a.hpp", header("using namespace std;"), 1),
        ("core/a.hpp", header(*[""] * MAX_LINES), 1),
        ("core/a.hpp", SPDX + "\n", 1),
        ("core/a.hpp", "#pragma once\n", 1),
    ]
    wrong = 0
    for name, text, expected in cases:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "include", "mor", name)
            path.parent.mkdir(parents=True)
            path.write_text(text)
            found = check(pathlib.Path(folder))
        if len(found) != expected:
            wrong += 1
            print(f"self-test: expected {expected} problems, found {found} in {name}:\n{text[:300]}")
    return wrong


def main():
    if sys.argv[1:] == ["--self-test"]:
        return 1 if self_test() else 0
    root = pathlib.Path(sys.argv[1]) if sys.argv[1:] else pathlib.Path(__file__).parents[1]
    found = check(root)
    print("\n".join(found) or "check_layers: all headers keep the rules")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
