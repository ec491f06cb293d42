# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/performance.md."""
import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from performance.tables import PARTS

matplotlib.rcParams.update({"svg.hashsalt": "mor", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3})


def strategies(found, path):
    figure, axis = plt.subplots(figsize=(7, 3))
    names = list(found)
    left = [0.0] * len(names)
    for part in PARTS + ("losses",):
        values = [found[n]["base"][part + "_us"] / 1e3 for n in names]
        axis.barh(names, values, left=left, label=part)
        left = [a + b for a, b in zip(left, values)]
    times = [found[n]["base"]["block_us"] / 1e3 / total for n, total in zip(names, left)]
    axis.set_xlabel(f"milliseconds of all steps; the block, left out, is {min(times):.0f} to {max(times):.0f} times as long")
    axis.invert_yaxis()
    axis.legend(fontsize=7, ncols=3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def capacity(found, path):
    figure, axis = plt.subplots(figsize=(7, 3))
    for name, settings in found.items():
        points = sorted(
            (1 - e["flops_saved"], 1 - e["time_saved"]) for s, e in settings.items() if s.startswith("capacity:")
        )
        if points:
            axis.plot(*zip(*points), marker="o", ms=4, label=name)
    axis.plot([0.3, 1], [0.3, 1], color="gray", linewidth=0.8, linestyle="--", label="ideal")
    axis.set_xlabel("operations of the recursion, dense = 1")
    axis.set_ylabel("time, dense = 1")
    axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def overhead(found, path):
    figure, axis = plt.subplots(figsize=(7, 3))
    for name, settings in found.items():
        points = sorted(
            (int(s.split(":")[1]), 100 * e["overhead"]) for s, e in settings.items() if s.startswith("length:")
        )
        axis.plot(*zip(*points), marker="o", ms=4, label=name)
    axis.axhline(2, color="gray", linewidth=0.8, linestyle="--")
    axis.set_xscale("log", base=2)
    axis.set_xlabel("tokens of the sequence")
    axis.set_ylabel("overhead, % of the block")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=7, ncols=2)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
