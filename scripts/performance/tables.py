# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/performance.md."""
import statistics

from performance.reports import entries, microseconds, table

SELECTED = (1024, 2048, 8192)  # rows
PARTS = ("score", "select", "compact", "gather", "merge")
SAVED_AT_LEAST = 0.02  # of the operations; for less, the noise in the time is more than what was saved
PEAK = "of the FMA peak"
MEMORY = "of memory's bandwidth"


def percent(share):
    return f"{100 * share:.0f} %"


def sizes_of(name):
    """'rms_norm/32/real_time' -> ('rms_norm', '32')"""
    kind, *sizes = name.removesuffix("/real_time").split("/")
    return kind, " x ".join(f"{int(s):,}" for s in sizes)


def limits(report):
    rows = []
    for threads in (1, report["context"]["hardware_threads"]):
        get = lambda what: float(report["context"][f"roofline_{threads}_threads_{what}"])
        parts = ("gflops", "bfloat16_gflops", "l1_gbytes", "l2_gbytes", "l3_gbytes", "memory_gbytes")
        rows.append([str(threads)] + [f"{get(part):.0f}" for part in parts])
    header = ["threads", "FMA GFLOP/s, float", "the same, bfloat16", "read from L1, GB/s", "from L2", "from L3", "from memory"]
    return table(header, rows)


def products(ops):
    rows = []
    for name, e in ops.items():
        kind, sizes = sizes_of(name)
        if kind not in ("product", "product_backward"):
            continue
        rounded = ops[name.replace(kind + "/", kind + "_bfloat16/", 1)]
        shares = [part for entry in (e, rounded) for part in (
            f"{1e-9 * entry['flop/s']:.0f}", percent(entry["of_flops"]), percent(entry["of_memory"]))]
        rows.append([kind.replace("_", ", "), sizes, *shares])
    each = ["GFLOP/s", "of the peak", "of memory"]
    header = ["", "rows x in x out"] + [f"float: {each[0]}", *each[1:]] + [f"bfloat16: {each[0]}", *each[1:]]
    return table(header, rows, 2)


def eigen_shares(report):
    """Eigen's own products on one thread, as shares of its peak."""
    peak = 1e9 * float(report["context"]["roofline_1_threads_gflops"])
    return [e["flop/s"] / peak for name, e in entries(report).items() if name.startswith("eigen_product/")]


def eigen(report):
    shares = eigen_shares(report)
    return f"{percent(min(shares))} to {percent(max(shares))}"


def others(ops):
    rows = []
    for name, e in ops.items():
        kind, sizes = sizes_of(name)
        if not kind.startswith(("product", "eigen")):
            rows.append([kind, sizes, f"{microseconds(e):.1f}", percent(e["of_flops"]), percent(e["of_memory"])])
    return table(["operation", "size", "microseconds", PEAK, MEMORY], rows, 2)


def block_rows(report):
    """(pass, tokens, on one thread, on two)"""
    runs = entries(report)
    for name, e in runs.items():
        kind, tokens, length, threads = name.split("/")[:4]
        if threads == "threads:2":
            one = runs[name.replace(threads, "threads:1")]
            yield kind.replace("_", ", "), tokens.split(":")[1], length.split(":")[1], one, e


def blocks(report):
    rows = [
        [
            kind,
            f"{int(tokens):,} in sequences of {length}",
            f"{one['real_time']:.0f}",
            percent(one["of_flops"]),
            f"{two['real_time']:.0f}",
            percent(two["of_flops"]),
            f"{one['real_time'] / two['real_time']:.2f}",
        ]
        for kind, tokens, length, one, two in block_rows(report)
    ]
    header = ["pass, shape", "tokens", "1 thread: ms", PEAK, "2 threads: ms", PEAK, "times as fast"]
    return table(header, rows, 2)


def caches(report):
    rows = []
    for name, e in entries(report).items():
        sequences, page = (part.split(":")[1] for part in name.split("/")[1:3])
        memory = "one piece" if page == "0" else f"pages of {page}"
        rows.append([sequences, memory, f"{microseconds(e):.0f}", percent(e["of_memory"])])
    return table(["sequences", "memory", "microseconds", MEMORY], rows, 2)


def ours_selecting(report):
    runs = entries(report)
    return [microseconds(runs[f"mor/rows:{n}/threads:1/real_time"]) for n in SELECTED]


def torch_selecting(peer):
    return [r["microseconds"] for r in peer["results"] if r["threads"] == 1]


def torch_ratios(report, peer):
    return [t / o for t, o in zip(torch_selecting(peer), ours_selecting(report))]


def selection(report, peer):
    runs = entries(report)
    ours = ours_selecting(report)
    rows = [["mor"] + [f"{t:.0f}" for t in ours] + ["1.0"]]
    others = {f"{peer['peer']}, topk and sort": torch_selecting(peer)}
    for label, name in (
        ("std::nth_element of values, ordered pass", "nth_element_of_values"),
        ("std::nth_element of indices, sort", "nth_element_of_indices"),
        ("std::partial_sort of indices, sort", "partial_sort_of_indices"),
    ):
        others[label] = [microseconds(runs[f"{name}/rows:{n}"]) for n in SELECTED]
    for label, times in others.items():
        ratios = [t / o for t, o in zip(times, ours)]
        rows.append([label] + [f"{t:.0f}" for t in times] + [f"{min(ratios):.0f} to {max(ratios):.0f}"])
    return table(["algorithm"] + [f"{n:,} rows" for n in SELECTED] + ["times as long as ours"], rows)


def movements(report):
    """(rows, threads, {movement: gigabytes a second})"""
    runs = entries(report)
    for size in (256, 1024, 8192, 65536):
        for threads in (1, 2):
            yield size, threads, {
                what: runs[f"{what}/rows:{size}/threads:{threads}/real_time"]["bytes_per_second"] / 1e9
                for what in ("gather", "scatter", "copy_by_rows", "copy")
            }


def movement(report):
    rows = [[f"{n:,}", str(threads)] + [f"{r:.1f}" for r in rate.values()] for n, threads, rate in movements(report)]
    return table(["rows", "threads", "gather", "scatter", "copy, row by row", "copy"], rows)


def saved_ratio(e):
    return f"{e['time_saved'] / e['flops_saved']:.2f}" if e["flops_saved"] > SAVED_AT_LEAST else "-"


def strategies(found):
    rows = []
    for name, settings in found.items():
        e = settings["base"]
        rows.append(
            [name]
            + [f"{e[part + '_us']:.0f}" for part in PARTS]
            + [f"{e['block_us']:,.0f}", f"{e['losses_us']:.0f}", f"{100 * e['overhead']:.2f} %"]
            + [percent(e["flops_saved"]), percent(e["time_saved"]), saved_ratio(e)]
            + [f"{e['max_violation']:.2f}"]
        )
    header = ["strategy", *PARTS, "block", "losses", "overhead", "operations saved", "time saved"]
    return table(header + ["ratio", "violation"], rows)


def axes(found):
    rows = [
        [name, setting.replace(":", " "), f"{100 * e['overhead']:.2f} %", saved_ratio(e)]
        for name, of in found.items()
        for setting, e in of.items()
    ]
    return table(["strategy", "setting", "overhead", "time saved over operations saved"], rows, 2)


def choosing(found, others):
    """Expert-choice by the library's selection and by others: microseconds of choosing, less the router's network."""
    ours = found["expert_choice"]
    rows = []
    for name, of in {"expert_choice": ours, **others}.items():
        for setting, e in of.items():
            if setting in next(iter(others.values())):
                select = e["select_us"]
                rows.append([name, setting.replace(":", " "), f"{select:.0f}", f"{100 * e['overhead']:.2f} %", saved_ratio(e)])
    header = ["strategy", "setting", "select, microseconds", "overhead", "time saved over operations saved"]
    return table(header, rows, 2)


def decode_rows(runs):
    """(model, batch, entry, time over bytes, time over operations)"""
    for name, e in runs.items():
        model, batch, recursions = name.split("/")[:3]
        batch = int(batch.split(":")[1])
        dense = runs[next(n for n in runs if n.startswith(f"dense/batch:{batch}/"))]
        time = e["real_time"] / dense["real_time"]
        steps = recursions.split(":")[1]
        yield (
            model.replace("_bfloat16", ", bfloat16") if model.startswith("dense") else f"{model} {steps}",
            batch,
            e,
            time / (e["bytes_per_step"] / dense["bytes_per_step"]),
            time / (e["flops_per_step"] / dense["flops_per_step"]),
        )


def decode(runs):
    rows = [
        [model, str(batch), f"{e['tokens/s']:.0f}", percent(e.get("of_memory_beside", e["of_memory"])), percent(e["of_flops"])]
        + (["", ""] if "bfloat16" in model else [f"{bytes_ratio:.2f}", f"{flops_ratio:.2f}"])
        for model, batch, e, bytes_ratio, flops_ratio in decode_rows(runs)
    ]
    return table(["model", "sequences", "tokens/s", MEMORY, PEAK, "time / bytes", "time / operations"], rows)


def prefill_rows(runs):
    """(model, shape, entry, time over operations) of 512 tokens"""
    dense = runs[next(n for n in runs if n.startswith("dense/135M"))]
    for name, e in runs.items():
        if "tokens/s" not in e:
            continue
        model, which = name.split("/")[:2]
        is_dense = model.startswith("dense")
        ratio = (e["real_time"] / dense["real_time"]) / (e["flops_per_pass"] / dense["flops_per_pass"])
        yield (
            model.replace("_bfloat16", ", bfloat16") if is_dense else f"{model} {which}",
            which if is_dense else "135M",
            e,
            None if is_dense else ratio,
        )


def prefill(runs):
    rows = [
        [model, shape, f"{e['tokens/s']:.0f}", percent(e["of_flops"]), f"{ratio:.2f}" if ratio else ""]
        for model, shape, e, ratio in prefill_rows(runs)
    ]
    return table(["model", "shape", "tokens/s", PEAK, "time / operations, dense = 1"], rows, 2)


def shared_keys_prefill(runs, num_recursions):
    """Prefill with keys of each recursion's own, and with recursive KV sharing."""
    for cache in ("RecursionWiseCache", "RecursiveSharingCache"):
        name = f"prefill<Recursive<mor::{cache}>, mor::Logits::last_rows>/{num_recursions}/"
        yield next(e for n, e in runs.items() if n.startswith(name))


def shared_prefill(runs):
    rows = []
    for steps in (2, 3, 4):
        own, shared = shared_keys_prefill(runs, steps)
        times = [f"{e['real_time']:.0f}" for e in (own, shared)]
        ratios = [f"{shared[what] / own[what]:.2f}" for what in ("real_time", "GFLOP")]
        rows.append([str(steps), *times, *ratios])
    return table(["recursions", "own keys", "shared keys", "time, own = 1", "operations, own = 1"], rows)


def train_rows(runs, memory):
    """(model, entry, time over operations, peak bytes, these over the dense model's)"""
    peaks = {m["name"].split("/iterations")[0]: m["peak_bytes"] for m in memory["models"]}
    dense = next(e for n, e in runs.items() if n.startswith("dense/"))
    for name, e in runs.items():
        model, steps = name.split("/")[:2]
        time = e["real_time"] / dense["real_time"]
        yield (
            model.replace("_bfloat16", ", bfloat16") if model.startswith("dense") else f"{model} {steps}",
            e,
            time / (e["flops_per_step"] / dense["flops_per_step"]),
            peaks["/".join(name.split("/")[:2])],
            peaks["/".join(name.split("/")[:2])] / peaks["dense/1"],
        )


def train(runs, memory):
    rows = [
        [
            model,
            f"{e['tokens/s']:.0f}",
            f"{1e-9 * e['flops_per_step']:,.0f}",
            percent(e["of_flops"]),
            f"{time_ratio:.2f}",
            f"{e['memory_bytes'] / 1e9:.2f}",
            f"{peak / 1e9:.2f}",
            f"{memory_ratio:.2f}",
        ]
        for model, e, time_ratio, peak, memory_ratio in train_rows(runs, memory)
    ]
    header = ["model", "tokens/s", "GFLOP an update", PEAK, "time / operations, dense = 1"]
    return table(header + ["GB set aside", "GB at most", "dense = 1"], rows)


def peer_ratios(result):
    """Times as fast as the peer's faster mode, turn by turn."""
    fastest = max(result["theirs"].values(), key=lambda mode: mode["median"])
    return [ours / theirs for ours, theirs in zip(result["ours"]["all"], fastest["all"])]


def peers(report):
    rows = []
    for r in report["results"]:
        ratios = peer_ratios(r)
        many = f"{r['case']}, sequences: {r['sequences']}" if r["case"] == "decode" else r["case"]
        theirs = ", ".join(f"{mode + ' ' if mode else ''}{v['median']:.0f}" for mode, v in r["theirs"].items())
        rows.append([r["shape"], many, r["dtype"], r["peer"], f"{r['ours']['median']:.0f}", theirs]
                    + [f"{f(ratios):.2f}" for f in (statistics.median, min, max)])
    header = ["shape", "case", "products in", "peer", "mor, tokens/s", "peer, tokens/s", "times as fast", "slowest", "fastest"]
    return table(header, rows, 4)


def compiling(report):
    rows = [
        [p["name"], p["level"], f"{p['seconds']:.1f}", f"{p['peak_megabytes']:.0f}"] for p in report["programs"]
    ]
    return table(["program", "flag", "seconds", "peak MB"], rows, 2)
