#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes one self-contained HTML page of a report that examples/quickstart wrote.

usage: make_report.py REPORT.json REPORT.html [--chart-js PATH] [--template PATH] [--causality PATH]

The page holds the template, the data and Chart.js 3.9.1; it loads nothing from anywhere. Beside the
run's own figures it shows the committed ones of benchmarks/causality_gap.
"""
import argparse
import json
import math
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "examples" / "quickstart" / "report_template.html"
CAUSALITY = ROOT / "benchmarks" / "results" / "causality_gap.json"
CHART_JS = pathlib.Path("/usr/share/javascript/chart.js/chart.min.js")

NUMBER = (int, float)
# What the template reads. A list of one element is "a list of these"; a tuple lists types; OPTIONAL
# also allows null.
OPTIONAL = type(None)
PIECE = {"text": str, "depth": int}
SCHEMA = {
    "title": str,
    "corpus": {"name": str, "training_bytes": int, "held_out_bytes": int},
    "machine": {"processor": str, "threads": int, "compiler": str, "flags": str, "command": str,
                "seed": int, "date": str},
    "minutes": NUMBER,
    "num_recursions": int,
    "baselines": [{"name": str, "bits_per_byte": NUMBER}],
    "models": [{
        "name": str,
        "description": str,
        "unique_parameters": int,
        "effective_layers": int,
        "training_flops": NUMBER,
        "training_tokens": int,
        "training_seconds": NUMBER,
        "held_out_bits_per_byte": (*NUMBER, OPTIONAL),
        "held_out_bits_per_byte_look_ahead": (*NUMBER, OPTIONAL),
        "training_tokens_per_second": (*NUMBER, OPTIONAL),
        "generation_tokens_per_second": (*NUMBER, OPTIONAL),
        "kv_bytes_per_token": (*NUMBER, OPTIONAL),
        "kv_share_measured": (*NUMBER, OPTIONAL),
        "kv_share_formula": (*NUMBER, OPTIONAL),
        # A diverged run writes null where a loss is not a number.
        "curve": [{"flops": NUMBER, "seconds": NUMBER, "bits_per_byte": (*NUMBER, OPTIONAL)}],
        "held_out_curve": [{"flops": NUMBER, "bits_per_byte": (*NUMBER, OPTIONAL)}],
        "active_share": [{"flops": NUMBER, "shares": [(*NUMBER, OPTIONAL)]}],
        "generation": [{**PIECE, "from_prompt": bool}],
        "passage": [PIECE],
        "router_scores": ([{"step": int, "edges": [NUMBER], "selected": [NUMBER],
                            "unselected": [NUMBER]}], OPTIONAL),
    }],
}
CAUSALITY_SCHEMA = {"command": str, "seed": int, "decisions": [{"name": str, "bits_per_byte": NUMBER}]}
NAMES = {str: "text", int: "an integer", float: "a number", bool: "true or false", OPTIONAL: "null"}


class ReportError(Exception):
    """What the user can put right."""


def describe(kind):
    if isinstance(kind, dict):
        return "an object"
    if isinstance(kind, list):
        return "a list"
    if isinstance(kind, tuple):
        return " or ".join(dict.fromkeys(describe(k) for k in kind if k is not int or float not in kind))
    return NAMES[kind]


def matches(value, kind):
    """Whether the value, without what it contains, is of that kind."""
    if isinstance(kind, (dict, list)):
        return isinstance(value, type(kind))
    if kind is int and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def check(value, kind, where):
    """Throws ReportError at the first place where value does not follow the schema."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    found = next((k for k in kinds if matches(value, k)), None)
    if found is None:
        raise ReportError(f"{where} is {json.dumps(value)[:40]}, expected {describe(kind)}")
    if isinstance(found, dict):
        for key, child in found.items():
            if key not in value:
                raise ReportError(f"{where}.{key} is missing, expected {describe(child)}".lstrip("."))
            check(value[key], child, f"{where}.{key}".lstrip("."))
    elif isinstance(found, list):
        for i, child in enumerate(value):
            check(child, found[0], f"{where}[{i}]")


def finite(digits):
    number = float(digits)
    return number if math.isfinite(number) else None


def load_report(path):
    # Generated text can hold any byte: what is not UTF-8 becomes U+FFFD. NaN becomes null, because
    # JSON.parse knows no NaN.
    text = path.read_bytes().decode("utf-8", errors="replace")
    try:
        report = json.loads(text, parse_constant=lambda name: None, parse_float=finite, strict=False)
    except ValueError as error:
        raise ReportError(f"{path} is no JSON: {error}") from None
    check(report, SCHEMA, "")
    if not report["models"]:
        raise ReportError("models is empty, expected at least one")
    for m, model in enumerate(report["models"]):
        for s, scores in enumerate(model["router_scores"] or []):
            bins = len(scores["edges"]) - 1
            for key in ("selected", "unselected"):
                if len(scores[key]) != bins:
                    raise ReportError(f"models[{m}].router_scores[{s}].{key} has {len(scores[key])} "
                                      f"counts, expected {bins}: one fewer than edges")
    return report


def load_causality(path):
    """Rows (model, [bits per byte of each way to decide]) of a measurement of causality_gap."""
    measured = json.loads(path.read_text(encoding="utf-8"))
    check(measured, CAUSALITY_SCHEMA, str(path))
    models = {}
    for decision in measured["decisions"]:
        model, _, way = decision["name"].partition(", ")
        models.setdefault(model, []).append({"way": way, "bits_per_byte": decision["bits_per_byte"]})
    return {"command": measured["command"], "seed": measured["seed"],
            "models": [{"name": name, "ways": ways} for name, ways in models.items()]}


def as_script_data(report):
    """JSON that can stand inside <script>: pure ASCII, and no '<' that could end the element."""
    text = json.dumps(report, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def as_script(source):
    """A script that can stand inside <script>; the escapes mean the same in strings and patterns."""
    return re.sub(r"<(?=/script|script|!--)", r"\\x3c", source, flags=re.IGNORECASE)


def load_chart_js(path):
    if not path.is_file():
        raise ReportError(f"no Chart.js at {path}. Install it (Debian, Ubuntu: libjs-chart.js), or "
                          "give its chart.min.js, version 3.9, with --chart-js PATH")
    return path.read_text(encoding="utf-8", errors="replace")


def fill(template, parts):
    """Replaces each @@NAME@@ of the template once; what is inserted is not searched again."""
    used = []

    def replacement(match):
        used.append(match[1])
        return parts[match[1]]

    page = re.sub("@@(" + "|".join(parts) + ")@@", replacement, template)
    if sorted(used) != sorted(parts):
        raise ReportError(f"the template has the places {used}, expected {list(parts)}, each once")
    return page


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=pathlib.Path, metavar="REPORT.json")
    parser.add_argument("page", type=pathlib.Path, metavar="REPORT.html")
    parser.add_argument("--chart-js", type=pathlib.Path, default=CHART_JS, metavar="PATH")
    parser.add_argument("--template", type=pathlib.Path, default=TEMPLATE, metavar="PATH")
    parser.add_argument("--causality", type=pathlib.Path, default=CAUSALITY, metavar="PATH")
    options = parser.parse_args(arguments)
    try:
        report = load_report(options.report)
        report["causality"] = load_causality(options.causality)
        page = fill(options.template.read_text(encoding="utf-8"), {
            "CHART_JS": as_script(load_chart_js(options.chart_js)),
            "REPORT": as_script_data(report),
        })
        options.page.write_text(page, encoding="utf-8")
    except (ReportError, OSError, json.JSONDecodeError) as error:
        print(f"make_report: {error}", file=sys.stderr)
        return 1
    print(f"make_report: wrote {options.page} ({options.page.stat().st_size // 1024} KiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
