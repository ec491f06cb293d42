# SPDX-License-Identifier: Apache-2.0
"""Reading the reports of benchmarks, and writing tables."""
import json
import statistics


def load(root, name):
    path = root / "benchmarks/results" / f"{name}.json"
    return json.loads(path.read_text())


def entries(report):
    """The median of each benchmark's repetitions, in the order of the source: {name: entry}."""
    runs = {}
    order = lambda e: (e["family_index"], e["per_family_instance_index"])
    for entry in sorted(report["benchmarks"], key=order):
        if entry["run_type"] == "iteration":
            runs.setdefault(entry["run_name"], []).append(entry)
    merged = {}
    for name, group in runs.items():
        merged[name] = {
            key: statistics.median(e[key] for e in group) if isinstance(value, float) else value
            for key, value in group[0].items()
        }
    return merged


def table(header, rows, left=1):
    rule = "|" + "|".join("---" if i < left else "---:" for i in range(len(header))) + "|"
    return "\n".join(["| " + " | ".join(header) + " |", rule] + ["| " + " | ".join(r) + " |" for r in rows])


def microseconds(entry):
    return entry["real_time"] / {"ns": 1e3, "us": 1, "ms": 1e-3}[entry["time_unit"]]


def routed(report):
    """{strategy: {setting: entry}}, and the same of expert-choice with other ways to choose its rows."""
    found, others = {}, {}
    for name, e in entries(report).items():
        strategy, setting = name.split("/")[:2]
        (others if ", " in strategy else found).setdefault(strategy, {})[setting] = e
    return found, others
