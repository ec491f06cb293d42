#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/performance.md and its figures from the reports in benchmarks/results.

Needs matplotlib (Debian: python3-matplotlib).
usage: make_performance_page.py [ROOT]
"""
import pathlib
import sys

from performance import figures, tables
from performance.goals import goals
from performance.profiles import profiles
from performance.reports import entries, load, routed

REPORTS = ("block", "cache", "compile_time", "decode", "ops", "peak_memory", "peers", "peer_torch_selection", "prefill")
REPORTS += ("routing", "selection", "selection_portable", "train_step")

PAGE = """# Performance on a CPU

{machine}. Made by `scripts/make_performance_page.py` from
[these reports](../benchmarks/results), which `scripts/run_benchmarks.sh` and the scripts named below write; each holds its commit. The machine is shared: read ratios,
which are taken within one run. Serving has [a page of its own](results/serving.md).

## What the machine can do

Measured by each benchmark when it starts, here by `ops`:

{limits}

## Products

`ops`, {threads} threads, of [rows, in] with weights [out, in]. A product takes at least its operations over the peak, and its
bytes over the bandwidth of what holds the weights: where that is a cache, more than memory's.

{products}

Eigen's own product of these shapes, on one thread, reaches {eigen} of a thread's peak; why ours are not Eigen's is
[a decision](design/0011-own-products.md).

## Everything else in a layer

{others}

Whole blocks (`block`: four of them, with norms, attention and residuals), forward and backward, on one thread and on two:

{blocks}

Attention of one new token for each sequence to 512 keys and values (`cache`), from one piece of memory and from pages in
random places; the floor is reading them once:

{caches}

## Choosing rows

`selection`: two thirds of the rows of 32 sequences, ascending, microseconds for all of them on one thread; PyTorch by
`benchmarks/peers/torch_selection.py OUTPUT.json` beside it.

{selection}

Ours guesses a bound, as an integer in the order of the scores, until as many as wanted reach it: every pass counts a vector
at a time. One more pass keeps the rows in order, eight at a time where the processor has AVX-512.

Moving two thirds of the rows of [rows, 576], gigabytes a second read and written, beside copies of as many bytes: row by
row, and at once, which writes past the caches where they are too small, so that whoever reads the rows next waits for memory:

{movement}

## Routing strategies

`routing`: a forward pass of Middle-Cycle models with random weights and two layers a step, so that all but the block weighs
more than in deeper ones. At the base setting (width 576, 4 sequences of 512 tokens, 3 recursions) microseconds of all steps
together; "losses" is the router's backward pass, which inference does not have.

{strategies}

"Overhead" is all of a step but the block, over the block. "Saved" is against the dense recursive model of the same shape, timed
before and after; the ideal ratio is 1. "Violation" is by how much the fullest depth exceeds the mean (MaxVio); the weights are random, so it
says what balancing has to do. "fixed" sends every token through every step, and shows what routing costs that decides nothing.
"Select" is the router's decision less its network, which is timed apart: 0 where that is below the noise. Where few operations
are saved, noise moves the ratio far from 1. A strategy of your own is one line in `benchmarks/routing.cpp`; `parity` is one.

![Time by part of a step](performance_strategies.svg)

![Time against capacity](performance_capacity.svg)

![Overhead against length](performance_overhead.svg)

The same along every axis, for overhead and for time saved over operations saved:

{axes}

Expert-choice once more, by the library's selection, which shares the sequences among its threads, and by those above, on one:

{choosing}

## Decoding

`decode`: a token for each of several sequences of 64 tokens at the shape of 135M parameters, {threads} threads. The floor for
one sequence is reading weights, keys and values once, at the bandwidth measured just before and after, which changes from minute
to minute (for more, at that measured when the program began); "time / bytes" and "time / operations" compare with the dense model's: at most
1.05 is the aim, of bytes for one sequence and of operations for 32.

{decode}

## Prefill

`prefill`: 512 tokens, logits of the last alone, {threads} threads; the weights were packed before, by a token decoded earlier.

{prefill}

With recursive KV sharing on Cycle, the recursions after the first compute no keys, and run for the last token alone: 1,024 tokens, 12
layers, width 256, milliseconds.

{shared_prefill}

## Training

`train_step`: an update of 135M-shaped models on 4 x 256 tokens. Set aside is memory for weights, gradients, optimiser and
activations; at most is what of it the system had to give to a process that does nothing else (`benchmarks/peak_memory.py OUTPUT.json`).

{train}

The memory of activations is made one piece when the second update begins; the third and later ones add none to it
({allocations} times in the {runs} runs together).

## Beside llama.cpp and PyTorch

`benchmarks/peers/beside.py`: dense models of 135M and 360M parameters, {peer_threads} threads, turn by turn in one run,
{turns} turns: tokens a second in the median, and how many times as fast in the median turn, the slowest and the fastest.
{peer_versions}. Prefill is of 512 tokens, decoding follows 64, training is an update of 4 x 256 tokens with AdamW. PyTorch runs as it comes and compiled; the faster one counts, and a mode that was slower by a tenth in both of the first two
turns had no more.

{peers}

## Where the time goes

`scripts/profile.py` with perf, which stops the programs 499 times a second; decoding with its prompt of 64 tokens. A share of all threads' time, and of the
roofline: the time that its operations would take at the FMA peak, or its bytes at the bandwidth of memory (of a second-level
cache, where they stay there), over the time that it took.

{profiles}

The furthest from their rooflines among what takes a hundredth of the time or more: SwiGLU, whose exponential takes longer than its
bytes come out of the cache, and the norms of training, whose roofline is a cache's, while their gradients read what the forward
pass left in memory.

## Compiling

`benchmarks/compile_time.py`, {compiler}, medians of {compile_repetitions}, one translation unit on one core:

{compiling}

## Goals

{goals}
"""


def versions(report):
    """What the peers are, in a sentence."""
    llama, torch = report["peers"]["llama.cpp"], report["peers"]["PyTorch"]
    return f"llama.cpp {llama['commit'][:7]} ({llama['package']}), PyTorch {torch['version']}"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    reports = {name: load(root, name) for name in REPORTS}
    ops = entries(reports["ops"])
    found, others = routed(reports["routing"])
    training = entries(reports["train_step"])
    trainings = [e for e in reports["train_step"]["benchmarks"] if e["run_type"] == "iteration"]
    context = reports["ops"]["context"]
    compiled = reports["compile_time"]
    page = PAGE.format(
        machine=f"{context['cpu']}, {context['hardware_threads']} cores, g++ {context['compiler']} {context['flags']}",
        threads=context["hardware_threads"],
        limits=tables.limits(reports["ops"]),
        products=tables.products(ops),
        eigen=tables.eigen(reports["ops"]),
        others=tables.others(ops),
        blocks=tables.blocks(reports["block"]),
        caches=tables.caches(reports["cache"]),
        selection=tables.selection(reports["selection"], reports["peer_torch_selection"]),
        movement=tables.movement(reports["selection"]),
        strategies=tables.strategies(found),
        axes=tables.axes(found),
        choosing=tables.choosing(found, others),
        decode=tables.decode(entries(reports["decode"])),
        prefill=tables.prefill(entries(reports["prefill"])),
        shared_prefill=tables.shared_prefill(entries(reports["prefill"])),
        train=tables.train(training, reports["peak_memory"]),
        runs=len(trainings),
        allocations=f"{sum(e['allocations'] for e in trainings):.0f}",
        peer_threads=reports["peers"]["results"][0]["threads"],
        turns=reports["peers"]["turns"],
        peer_versions=versions(reports["peers"]),
        peers=tables.peers(reports["peers"]),
        profiles=profiles(root),
        compiling=tables.compiling(compiled),
        compiler=compiled["compiler"],
        compile_repetitions=compiled["repetitions"],
        goals=goals(reports, found),
    )
    (root / "docs/performance.md").write_text(page)
    figures.strategies(found, root / "docs/performance_strategies.svg")
    figures.capacity(found, root / "docs/performance_capacity.svg")
    figures.overhead(found, root / "docs/performance_overhead.svg")


if __name__ == "__main__":
    main()
