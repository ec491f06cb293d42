#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The summary of scripts/test_gpu.sh: what its steps came to, what was measured, and the goals.

usage: cuda_table.py STEPS.tsv MODELS.json TORCH.json

STEPS.tsv has name, result, seconds and detail of each step. A report that is not there was not written; what
it would say is "not measured yet", or "no PyTorch here".
"""
import json
import pathlib
import sys

NOT_MEASURED = "not measured yet"
NO_TORCH = "no PyTorch here"
IN_GRAPHS = " in graphs"  # of a pass; PyTorch's is one as it comes
SHAPES = ("135M", "360M")  # that the goals are of
PRECISIONS = {"float": "f32", "bfloat16": "bf16"}  # ours, and PyTorch's word


def load(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def columns(rows):
    """Lines of words below each other; the last column is as long as it likes."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return ["  ".join([*(word.ljust(width) for word, width in zip(row, widths)), row[-1]]).rstrip() for row in rows]


def find(report, **wanted):
    """The first result that has these values, and a number; None if there is none."""
    for result in report["results"] if report else []:
        if all(result.get(key) == value for key, value in wanted.items()) and "problem" not in result:
            return result
    return None


def ours(models, shape, model="vanilla", num_recursions=1, precision="bfloat16"):
    return find(models, shape=shape, model=model, num_recursions=num_recursions, precision=precision)


def fastest(torch, case, shape, precision, rate):
    """PyTorch's mode with the highest rate: (tokens a second, mode), or None."""
    found = []
    for mode in ("eager", "compile"):
        result = find(torch, case=case, shape=shape, precision=PRECISIONS[precision], mode=mode, model="vanilla")
        value = rate(result) if result else None
        if value:
            found.append((value, mode))
    return max(found, default=None)


def pass_of(result, what, batch):
    return next((p for p in (result or {}).get("passes", []) if (p["what"], p["batch"]) == (what, batch)), None)


def rate_of(what, batch):
    def rate(result):
        found = [pass_of(result, what + how, batch) for how in ("", IN_GRAPHS)]
        return max((p["tokens_per_second"] for p in found if p), default=None)

    return rate


def train_rate(result):
    return result["training"]["tokens_per_second"]


def versus(own, peer, torch):
    """How many times as fast as PyTorch, in words."""
    if torch is None:
        return NO_TORCH
    if own is None or peer is None:
        return NOT_MEASURED
    return f"{own / peer[0]:.2f} x {peer[1]}"


def training_rows(models, torch):
    yield ["training", "tokens/s", "MFU", "peak GB", "PyTorch"]
    for result in models["results"]:
        name = f"{result['shape']} {result['model']} {result['num_recursions']} {result['precision']}"
        if "problem" in result:
            yield [name, result["problem"], "", "", ""]
            continue
        training = result["training"]
        peer = fastest(torch, "train", result["shape"], result["precision"], train_rate)
        is_dense = result["model"] == "vanilla"
        yield [
            name,
            f"{training['tokens_per_second']:,.0f}",
            "peak unknown" if training["mfu"] is None else f"{100 * training['mfu']:.1f} %",
            f"{training['peak_bytes'] / 1e9:.1f}",
            versus(training["tokens_per_second"], peer, torch) if is_dense else "",
        ]


def inference_rows(models, torch):
    yield ["prefill and decoding", "tokens/s", "of copies", "PyTorch"]
    for result in models["results"]:
        for p in result.get("passes", []):
            name = f"{result['shape']} {result['model']} {result['num_recursions']} {result['precision']}"
            what = p["what"].removesuffix(IN_GRAPHS)
            peer = fastest(torch, "infer", result["shape"], result["precision"], rate_of(what, p["batch"]))
            is_dense = result["model"] == "vanilla"
            yield [
                f"{name} {p['what']} of {p['batch']}",
                f"{p['tokens_per_second']:,.0f}",
                f"{100 * p['of_bandwidth']:.1f} %",
                versus(p["tokens_per_second"], peer, torch) if is_dense else "",
            ]


def torch_routing(torch, result):
    """Microseconds of the authors' way for all steps of a recursion."""
    found = find(torch, case="routing", shape=result["shape"])
    rows = [r["microseconds"] for r in found["routing"] if r["num_recursions"] == result["num_recursions"]] if found else []
    return sum(rows) if rows else None


def routing_rows(models, torch):
    yield ["routing, forward", "us a step", "of the block", "of the update", "the authors' way, us a step"]
    for result in models["results"]:
        routing = result.get("routing")
        if not routing:
            continue
        authors = torch_routing(torch, result)
        yield [
            f"{result['shape']} {result['model']} {result['num_recursions']} {result['precision']}",
            f"{routing['step_us']:.0f}",
            f"{100 * routing['of_block']:.1f} %",
            f"{100 * routing['of_update']:.1f} %",
            (NO_TORCH if torch is None else NOT_MEASURED) if authors is None else f"{authors / routing['steps']:.0f}",
        ]


def percent(share):
    return f"{100 * share:.1f} %"


def times(ratio):
    return f"{ratio:.2f} x"


def goal(name, aim, value, form, is_reached, missing=NOT_MEASURED):
    if value is None:
        return [name, aim, missing, ""]
    return [name, aim, form(value), "reached" if is_reached(value) else "missed"]


def ratios(models, torch):
    """Of every number that PyTorch has too: training and passes of the dense models, routing."""
    for result in models["results"] if models and torch else []:
        if "problem" in result:
            continue
        where = (result["shape"], result["precision"])
        if result["model"] == "vanilla":
            peer = fastest(torch, "train", *where, train_rate)
            if peer:
                yield result["training"]["tokens_per_second"] / peer[0]
            for p in result["passes"]:
                peer = fastest(torch, "infer", *where, rate_of(p["what"].removesuffix(IN_GRAPHS), p["batch"]))
                if peer:
                    yield rate_of(p["what"].removesuffix(IN_GRAPHS), p["batch"])(result) / peer[0]
        if "routing" in result:
            authors = torch_routing(torch, result)
            if authors:
                yield authors / (result["routing"]["step_us"] * result["routing"]["steps"])


def goals(models, torch):
    """At the larger shape, with products of bfloat16 factors, but for decoding, which is of both shapes."""
    yield ["goal", "aim", "measured", ""]
    dense, mor = ours(models, "360M"), ours(models, "360M", "mor", 2)
    pair = [(m["training"], d["training"]) for m, d in [(mor, dense)] if m and d]
    mfu = dense["training"]["mfu"] if dense else None
    unknown = "the peak is not known" if dense else NOT_MEASURED
    yield goal("MFU, 360M dense, bfloat16", ">= 45 %", mfu, percent, lambda v: v >= 0.45, unknown)
    speed = next((m["tokens_per_second"] / d["tokens_per_second"] for m, d in pair), None)
    yield goal("MoR of 2 recursions, tokens/s of vanilla's, 360M", ">= 1.19 x", speed, times, lambda v: v >= 1.19)
    memory = next((m["peak_bytes"] / d["peak_bytes"] for m, d in pair), None)
    yield goal("the same, peak memory of vanilla's", "<= 0.75 x", memory, times, lambda v: v <= 0.75)
    deeper = ours(models, "360M", "mor", 3)
    further = deeper["training"]["tokens_per_second"] / dense["training"]["tokens_per_second"] if deeper and dense else None
    yield goal("MoR of 3 recursions, tokens/s of vanilla's, 360M", "> of 2", further, times, lambda v: speed is not None and v > speed)
    routed = [r for r in (models or {"results": []})["results"] if "routing" in r and r["shape"] in SHAPES]
    shares = [r["routing"]["of_step"] for r in routed]
    yield goal("routing, of a recursion step, the worst", "< 2 %", max(shares, default=None), percent, lambda v: v < 0.02)
    for shape in SHAPES:
        decodes = [pass_of(ours(models, shape), "decode" + how, 1) for how in ("", IN_GRAPHS)]
        share = max((decode["of_bandwidth"] for decode in decodes if decode), default=None)
        yield goal(f"decoding one sequence, of the bandwidth of copies, {shape}", ">= 80 %", share, percent, lambda v: v >= 0.8)
    peers = (("training", "train", train_rate), ("prefill of 8", "infer", rate_of("prefill", 8)),
             ("decoding of 8", "infer", rate_of("decode", 8)))
    for what, case, rate in peers:
        peer = fastest(torch, case, "360M", "bfloat16", rate)
        own = rate(dense) if dense else None
        ratio = own / peer[0] if own and peer else None
        missing = NO_TORCH if torch is None else NOT_MEASURED
        yield goal(f"{what}, times PyTorch's faster mode, 360M dense", ">= 1.5 x", ratio, times, lambda v: v >= 1.5, missing)
    worst = min(ratios(models, torch), default=None)
    missing = NO_TORCH if torch is None else NOT_MEASURED
    yield goal("the worst of all numbers beside PyTorch's", ">= 1.5 x", worst, times, lambda v: v >= 1.5, missing)


def summary(steps, models, torch):
    lines = columns([["step", "result", "seconds", "detail"], *steps])
    if models:
        lines += ["", f"{models['device']}, driver {models['driver']}, {models['toolkit']}, commit {models['commit']}; "
                  f"{models['copied_bytes_per_second'] / 1e9:,.0f} GB/s copied"]
        for rows in (training_rows, inference_rows, routing_rows):
            lines += ["", *columns(list(rows(models, torch)))]
    return [*lines, "", *columns(list(goals(models, torch)))]


def main():
    if len(sys.argv) != 4:
        raise SystemExit(__doc__.split("\n\n")[1])
    steps, models, torch = map(pathlib.Path, sys.argv[1:])
    rows = [line.split("\t") for line in steps.read_text(encoding="utf-8").splitlines()]
    print("\n".join(summary(rows, load(models), load(torch))))


if __name__ == "__main__":
    main()
