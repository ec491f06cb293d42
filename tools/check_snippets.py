#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that the code in the documentation is code that our tests compile, and that the messages
it quotes exist.

A code block below '<!-- snippet: FILE#NAME -->' in README.md or docs/ must equal the lines of FILE
between '// snippet-begin NAME' and '// snippet-end', less their common indentation. A quotation
`mor: Concept: ...` must be in include/, up to its first '...' or '; ...'.

usage: check_snippets.py [--write] ROOT      check_snippets.py --self-test
"""
import pathlib
import re
import sys
import tempfile
import textwrap

BLOCK = re.compile(r"<!-- snippet: (\S+?)#(\S+) -->\n+```cpp\n(.*?)^```$", re.M | re.S)
MARK = re.compile(r"<!-- snippet:")
MESSAGE = re.compile(r"`(mor: [A-Z]\w+: [^`]*)`")
BETWEEN_LITERALS = re.compile(r'"\s*"')


def region(root, file, name):
    """Returns the code of a region, or raises ValueError."""
    path = pathlib.Path(root, file)
    if not path.is_file():
        raise ValueError(f"{file}: no such file")
    lines = path.read_text().splitlines(keepends=True)
    begins = [i for i, line in enumerate(lines) if line.strip() == f"// snippet-begin {name}"]
    if len(begins) != 1:
        raise ValueError(f"{file}: 'snippet-begin {name}' {len(begins)} times, expected once")
    for i in range(begins[0] + 1, len(lines)):
        if lines[i].strip() == "// snippet-end":
            return textwrap.dedent("".join(lines[begins[0] + 1 : i]))
    raise ValueError(f"{file}: 'snippet-begin {name}' has no 'snippet-end'")


def unknown_messages(root, text):
    """Returns the quoted compile-time messages that no header has."""
    quoted = [" ".join(message.split()).split("...")[0].rstrip(" ;,") for message in MESSAGE.findall(text)]
    if not quoted:
        return []
    headers = "".join(BETWEEN_LITERALS.sub("", path.read_text()) for path in root.glob("include/**/*.hpp"))
    return [message for message in quoted if message not in headers]


def problems(root, write=False):
    """Returns one line for each block that differs from its source."""
    root = pathlib.Path(root)
    found = []
    for document in [root / "README.md", *sorted(root.glob("docs/**/*.md"))]:
        if not document.is_file():
            continue
        text = document.read_text()
        name = document.relative_to(root)

        def replaced(match):
            try:
                code = region(root, match[1], match[2])
            except ValueError as error:
                found.append(f"{name}: {error}")
                return match[0]
            if code != match[3] and not write:
                found.append(f"{name}: the code of {match[1]}#{match[2]} has changed")
            return match[0].replace(f"```cpp\n{match[3]}```", f"```cpp\n{code}```")

        result = BLOCK.sub(replaced, text)
        found += [f"{name}: no header says '{message}'" for message in unknown_messages(root, text)]
        if len(MARK.findall(text)) != len(BLOCK.findall(text)):
            found.append(f"{name}: a snippet mark is not followed by a ```cpp block")
        if write and result != text:
            document.write_text(result)
    return found


def self_test():
    """Shows that each kind of mistake is noticed."""
    source = "// snippet-begin a\n    int x;\n\n    int y;\n// snippet-end\n// snippet-begin open\n"
    mark = "<!-- snippet: a.cpp#{} -->\n```cpp\n{}```\n"
    cases = [  # the document, how many problems
        (mark.format("a", "int x;\n\nint y;\n"), 0),
        ("```cpp\nfree();\n```\n", 0),
        (mark.format("a", "int x;\n"), 1),
        (mark.format("b", "int x;\n"), 1),
        (mark.format("open", "int x;\n"), 1),
        (mark.format("a", "").replace("a.cpp", "b.cpp"), 1),
        ("<!-- snippet: a.cpp#a -->\ntext\n", 1),
        (mark.format("a", "int x;\n\nint y;\n") + mark.format("a", "int z;\n"), 1),
        ("Error: `mor: Thing: it needs\na name, ...`.\n", 0),
        ("Error: `mor: Thing: it lacks a name`.\n", 1),
    ]
    wrong = 0
    for document, expected in cases:
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "a.cpp").write_text(source)
            pathlib.Path(folder, "include").mkdir()
            header = 'static_assert(x, "mor: Thing: it needs "\n    "a name, and more");\n'
            pathlib.Path(folder, "include/a.hpp").write_text(header)
            pathlib.Path(folder, "README.md").write_text(document)
            found = problems(folder)
            if len(found) != expected:
                wrong += 1
                print(f"self-test: {found}, expected {expected} problems, for\n{document}")
            if expected == 0:
                problems(folder, write=True)
                wrong += pathlib.Path(folder, "README.md").read_text() != document
    return wrong


def main():
    if sys.argv[1:] == ["--self-test"]:
        return 1 if self_test() else 0
    found = problems(sys.argv[-1], write="--write" in sys.argv)
    print("".join(f"{line}\n" for line in found), end="")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
