#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles one file and compares the first error with what the file expects.

A file holds one of these comments, and optionally '// flags: ...' for the compiler:
    // expected-error: <regular expression>     must fail, and the first error line must match
    //     <continued>                          joined to it by one space
    // expected-success                         must compile: the control of the others

usage: check.py FILE -- COMPILER FLAGS...        check.py --self-test -- COMPILER FLAGS...
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile


START = "// expected-error: "
CONTINUED = "//     "
DIRECTIVE = re.compile(r"// (flags: .+|expected-success)$")


def expected_error(text):
    """Returns the regular expression, or None if there is none. Raises ValueError if it is not
    clear where it ends: a formatter may have wrapped it."""
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith(START)]
    if not starts:
        return None
    if len(starts) > 1:
        raise ValueError("two expected errors; there is one first error")
    parts = [lines[starts[0]].removeprefix(START)]
    for line in lines[starts[0] + 1 :]:
        if line.startswith(CONTINUED):
            parts.append(line.removeprefix(CONTINUED))
        elif line.startswith("//") and not DIRECTIVE.match(line):
            raise ValueError(
                f"is '{line}' part of the expected error? If so, indent it: '{CONTINUED}...'; "
                "if not, put it above"
            )
        else:
            break
    return " ".join(part.strip() for part in parts)


def problem(path, compiler):
    """Returns what is wrong with the outcome for the file, or None."""
    text = pathlib.Path(path).read_text()
    try:
        expected = expected_error(text)
    except ValueError as error:
        return str(error)
    success = re.search(r"^// expected-success$", text, re.M)
    flags = re.search(r"^// flags: (.+)$", text, re.M)
    if (expected is None) == (success is None):
        return "the file must have either '// expected-error: <regex>' or '// expected-success'"
    command = compiler + (flags[1].split() if flags else []) + [str(path)]
    result = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False
    )
    errors = [line for line in result.stderr.splitlines() if "error:" in line]
    if success:
        return f"does not compile:\n{result.stderr}" if result.returncode else None
    if result.returncode == 0:
        return "compiles, but must not"
    if not errors:
        return f"the compiler failed without an error line:\n{result.stderr}"
    if not re.search(expected, errors[0]):
        return f"expected: {expected}\nfirst:    {errors[0]}\n\n{result.stderr}"
    return None


def self_test(compiler):
    """Shows that each kind of failure is noticed."""
    good = 'static_assert(sizeof(int) == 0, "mor: on purpose");\n'
    cases = [  # what the file holds, whether the check must be content
        ("// expected-error: mor: on purpose\n" + good, True),
        ("// expected-success\nint x;\n", True),
        ("// expected-error: another sentence\n" + good, False),
        ("// expected-error: mor: on purpose\nint x = {;\n" + good, False),
        ("// expected-error: .*\nint x;\n", False),
        ("// expected-success\n" + good, False),
        (good, False),
        ("// expected-error: mor: on\n//     purpose\n" + good, True),
        ("// expected-error: mor: on\n//     an island\n" + good, False),
        ("// expected-error: mor: on\n// purpose\n" + good, False),
        ("// expected-error: mor: on purpose\n//\n" + good, False),
        ("// expected-error: mor: on purpose\n// flags: -w\n" + good, True),
        ("// expected-error: mor: on purpose\n// expected-error: mor: on purpose\n" + good, False),
        ("// expected-error: mor: on purpose\n" + good + "// another comment\n", True),
    ]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "case.cpp")
        for text, content in cases:
            path.write_text(text)
            found = problem(path, compiler)
            if (found is None) != content:
                wrong += 1
                print(f"self-test: wrong answer ({found}) for\n{text}")
    return wrong


def main():
    split = sys.argv.index("--")
    what, compiler = sys.argv[1], sys.argv[split + 1 :]
    if what == "--self-test":
        return 1 if self_test(compiler) else 0
    found = problem(what, compiler)
    if found:
        print(f"{what}: {found}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
