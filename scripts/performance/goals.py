# SPDX-License-Identifier: Apache-2.0
"""The table of goals of docs/performance.md."""
import statistics

from performance import tables
from performance.reports import entries, table


def of_products(ops):
    for kind in ("", "_bfloat16"):
        forward = [e["of_flops"] for n, e in ops.items() if n.startswith(f"product{kind}/512/")]
        backward = [e["of_flops"] for n, e in ops.items() if n.startswith(f"product_backward{kind}/")]
        name = "bfloat16" if kind else "float"
        for what, shares in (("forward", forward), ("gradients", backward)):
            measured = f"{100 * min(shares):.0f} to {100 * max(shares):.0f} %"
            yield [f"products of 512 rows and more, {name}, {what}, of the FMA peak", "65 %", measured]


def of_routing(found, torch):
    settings = [(s, n, e) for n, of in found.items() for s, e in of.items()]
    worst = max(settings, key=lambda item: item[2]["overhead"])
    saved = [e["time_saved"] / e["flops_saved"] for _, _, e in settings if e["flops_saved"] > 0.02]
    yield [
        "routing overhead, of the block, in all settings",
        "2 %",
        f"at most {100 * worst[2]['overhead']:.1f} % ({worst[1]}, {worst[0].replace(':', ' ')})",
    ]
    yield [
        "time saved over operations saved, where these are more than 2 %",
        "0.95",
        f"{min(saved):.2f} to {max(saved):.2f}, median {statistics.median(saved):.2f}",
    ]
    rows = ", ".join(f"{n:,}" for n in tables.SELECTED)
    yield [
        "choosing rows, times faster than torch.topk and sort",
        "30",
        ", ".join(f"{t:.0f}" for t in torch) + f" for {rows} rows",
    ]


def of_models(decoding, training, prefilling):
    at = lambda batch: [r for r in tables.decode_rows(decoding) if r[1] == batch and "bfloat16" not in r[0]]
    mor = [r for r in tables.train_rows(training) if r[0].startswith("mor")]
    filled = [ratio for *_, ratio in tables.prefill_rows(prefilling) if ratio]
    rounded = next(r for r in tables.decode_rows(decoding) if r[0] == "dense, bfloat16" and r[1] == 1)
    memory = f"{100 * at(1)[0][2]['of_memory']:.0f} % in float, {100 * rounded[2]['of_memory']:.0f} % in bfloat16"
    yield ["dense decoding of one sequence, of memory's bandwidth", "90 %", memory]
    yield ["MoR decoding of one sequence, time / bytes", "1.05", f"{max(r[3] for r in at(1)[1:]):.2f} at most"]
    yield ["MoR decoding of 32, time / operations", "1.05", f"{max(r[4] for r in at(32)[1:]):.2f} at most"]
    yield ["MoR prefill of 512 tokens, time / operations", "1.05", f"{max(filled):.2f} at most"]
    yield ["MoR training, time / operations", "1.05", f"{max(r[2] for r in mor):.2f} at most"]
    yield ["memory of training MoR with 2 recursions, dense = 1", "0.8", f"{mor[0][3]:.2f}"]
    shared = tables.shared_keys_prefill(prefilling, 3)
    yield ["prefill with recursive KV sharing, Cycle, 3 recursions, own keys = 1", "0.45", f"{shared:.2f}"]


AIMS = {
    ("prefill", "f32", "llama.cpp"): 1.6,
    ("prefill", "bf16", "llama.cpp"): 1.5,
    ("decode", 1, "f32"): 1.15,
    ("decode", 1, "bf16"): 1.25,
    ("decode", 32, "f32"): 1.9,
    ("decode", 32, "bf16"): 1.9,
    ("train", "f32", "PyTorch"): 1.6,
    ("train", "bf16", "PyTorch"): 2.5,
}


def of_peers(report):
    for r in report["results"]:
        key = (r["case"], r["sequences"], r["dtype"]) if r["case"] == "decode" else (r["case"], r["dtype"], r["peer"])
        if key in AIMS:
            many = f" of {r['sequences']}" if r["case"] == "decode" else ""
            what = f"dense 135M, {r['case']}{many}, {r['dtype']}, times as fast as {r['peer']}"
            yield [what, f"{AIMS[key]}", f"{r['ratio']:.2f}"]


def of_scaling(block):
    gains = [one["real_time"] / two["real_time"] for *_, one, two in tables.block_rows(block)]
    yield ["blocks on two threads, times as fast as on one", "1.85", f"{min(gains):.2f} to {max(gains):.2f}"]


def of_compiling(report):
    seconds = {p["name"]: p["seconds"] for p in report["programs"]}
    including = seconds["mor/mor.hpp"] / seconds["Eigen/Dense"]
    yield ["including mor/mor.hpp, times as long as Eigen/Dense", "2", f"{including:.1f}"]
    yield ["compiling the README's program at -O3, seconds", "25", f"{seconds['examples/hello.cpp']:.0f}"]


# What limits a goal that may fall short, by the beginning of its name.
LIMITS = {
    "time saved over": "noise, where few operations are saved",
    "dense decoding of one": "memory has two speeds here, minutes at a time; the probe of this run met the slower one",
    "dense 135M, decode of 1, f32": "both read the weights about as fast as memory gives them",
    "dense 135M, decode of 32": "attention, and the rest that is done row by row: a quarter of the time",
    "MoR decoding of 32": "what is done row by row gains less from routing than products do",
    "dense 135M, prefill, f32": "products, at nine tenths of the peak",
    "dense 135M, train, f32": "PyTorch reaches two thirds of the FMA peak: 1.6 would be more than the peak",
    "dense 135M, train, bf16": "PyTorch reaches half of the bfloat16 peak: 2.5 would be more than the peak; ours rounds factors anew in each product",
}


def limit_of(name):
    return next((limit for start, limit in LIMITS.items() if name.startswith(start)), "")


def goals(reports, found, torch):
    read = {name: entries(reports[name]) for name in ("ops", "decode", "train_step", "prefill")}
    rows = [
        *of_products(read["ops"]),
        *of_routing(found, torch),
        *of_models(read["decode"], read["train_step"], read["prefill"]),
        *of_peers(reports["peers"]),
        *of_scaling(reports["block"]),
        *of_compiling(reports["compile_time"]),
    ]
    return table(["", "aim", "measured", "what limits it"], [[*row, limit_of(row[0])] for row in rows])
