#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Proves that mor_parity can fail.

usage: self_test.py MOR_PARITY DATA
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

COUNTS = re.compile(r"(\d+) passed, (\d+) failed, (\d+) skipped")


def run(program, directory, *arguments):
    """Returns the exit code, the numbers of the last line and the whole output."""
    result = subprocess.run([program, *arguments], capture_output=True, text=True,
                            env={**os.environ, "MOR_FIXTURES": str(directory)}, check=False)
    match = COUNTS.fullmatch(result.stdout.splitlines()[-1])
    assert match, result.stdout
    return result.returncode, tuple(map(int, match.groups())), result.stdout


def expect(what, result, wanted_code, wanted_counts, wanted_text=""):
    code, counts, output = result
    if (code, counts) != (wanted_code, wanted_counts) or wanted_text not in output:
        sys.exit(f"{what}: exit code {code}, counts {counts}, expected {wanted_code}, "
                 f"{wanted_counts} and '{wanted_text}'\n{output}")
    print(f"{what}: ok")


def expect_refusal(what, program, arguments, *wanted):
    """It ends with 2, has run nothing, and says each of the wanted texts."""
    result = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if result.returncode != 2 or result.stdout or any(text not in result.stderr for text in wanted):
        sys.exit(f"{what}: exit code {result.returncode}, expected 2 and {wanted}\n"
                 f"{result.stdout}{result.stderr}")
    print(f"{what}: ok")


def runs_in(output):
    """The names of the runs in what a program printed."""
    return sorted(set(re.findall(r"^\S+ +(\S+ \w+) +(?:ok|FAILED)", output, re.MULTILINE)))


def check_selection(program, vanilla):
    """What --backend selects, and what it refuses."""
    for backend, wanted in (("cpu", ["cpu bfloat16", "cpu double", "cpu float"]),
                            ("cpu double", ["cpu double"]),
                            ("reference", ["reference double"])):
        result = run(program, vanilla, "--backend", backend)
        expect(f"--backend {backend}", result, 0, (1, 0, 0))
        found = runs_in(result[2])
        assert found == wanted, (backend, found, wanted)
    expect("a backend with a mistake", run(program, vanilla, "--fault", "weight", "--backend",
                                           "reference"), 1, (0, 1, 0))
    here = ("'cpu float', 'cpu double', 'reference double'",)
    expect_refusal("the GPU's backend, which is not here", program, ["--backend", "cuda"],
                   "does not run 'cuda'", "MOR_CUDA", *here)
    for backend in ("cp", "cpu half", "tpu"):
        expect_refusal(f"no backend {backend}", program, ["--backend", backend],
                       f"does not run '{backend}'", *here)
    for arguments in (["--backend"], ["--backend", ""], ["--fault", "none"], ["cpu"]):
        expect_refusal(f"arguments {arguments}", program, arguments, "usage: mor_parity")


def copy_case(data, name, directory, change_json=lambda text: text, change_tensors=lambda b: b):
    directory.mkdir(exist_ok=True)
    text = (data / f"{name}.json").read_text()
    (directory / f"{name}.json").write_text(change_json(text))
    tensors = (data / f"{name}.safetensors").read_bytes()
    (directory / f"{name}.safetensors").write_bytes(change_tensors(tensors))
    return directory


def replace_once(old, new):
    def change(text):
        assert text.count(old) == 1 and len(old) == len(new), (old, text.count(old))
        return text.replace(old, new)
    return change


def main():
    program, data = sys.argv[1], pathlib.Path(sys.argv[2])
    cases = len(list(data.glob("*.safetensors")))
    routed = len([p for p in data.glob("*.safetensors") if p.name.startswith(("ec_", "tc_"))])
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        (root / "empty").mkdir()
        expect("a weight off by ten times the tolerance fails every case",
               run(program, data, "--fault", "weight"), 1, (0, cases, 0), "hidden.final: error")
        expect("a wrong selection fails every routed case",
               run(program, data, "--fault", "selection"), 1, (0, routed, cases - routed))
        expect("no directory", run(program, root / "none"), 1, (0, 0, 0), "is not a directory")
        expect("no case", run(program, root / "empty"), 1, (0, 0, 0), "has no case")
        expect("an unknown tensor",
               run(program, copy_case(data, "vanilla", root / "tensor", change_tensors=replace_once(
                   b'"hidden.final"', b'"hidden.finsl"'))),
               1, (0, 1, 0), "has no tensor 'hidden.final'")
        expect("a tensor nobody looks at",
               run(program, copy_case(data, "ec_base", root / "extra", change_tensors=replace_once(
                   b'"quirk.decode_logits"', b'"other.decode_logits"'))),
               1, (0, 1, 0), "other.decode_logits: nothing was compared with it")
        expect("a feature that is not there is skipped by its name",
               run(program, copy_case(data, "ec_capacity", root / "skip", change_json=replace_once(
                   '"rand_router": false', '"rand_router":  true'))),
               0, (0, 0, 1), "skipped: rand_router true")
        check_selection(program, copy_case(data, "vanilla", root / "vanilla"))
        lonely = copy_case(data, "vanilla", root / "lonely")
        (lonely / "vanilla.json").unlink()
        expect("no JSON", run(program, lonely), 1, (0, 1, 0), "vanilla.json: cannot be opened")
        shutil.copy(data / "ec_capacity.json", lonely / "vanilla.json")
        expect("the JSON of another case", run(program, lonely), 1, (0, 1, 0))


if __name__ == "__main__":
    main()
