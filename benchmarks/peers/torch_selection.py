#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times the authors' way to choose rows, torch.topk and sort, at the sizes of benchmark `selection`; for
torch_gpu.py, their whole way of routing.

Needs PyTorch. Writes JSON to the file named, or prints it.
usage: torch_selection.py [OUTPUT.json]
"""
import statistics
import sys
import time

import peer
import torch

SEQUENCES = 32


def microseconds(function, repetitions=30):
    function()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)


def routing_step(batch, candidates, kept, hidden, device):
    """A function that routes a recursion step as the authors do: scores, the best rows in order, their
    hidden states, and what the block makes of them added back."""
    states = torch.randn(batch, candidates, hidden, device=device)
    router = torch.nn.Linear(hidden, 1, bias=False, device=device)

    @torch.no_grad()
    def route():
        gates = 0.1 * torch.sigmoid(router(states))
        weights, chosen = torch.topk(gates, kept, dim=1, sorted=False)
        chosen, order = torch.sort(chosen, dim=1)
        weights = torch.gather(weights, 1, order)
        places = chosen.expand(-1, -1, hidden)
        rows = torch.gather(states, 1, places)
        return torch.scatter_add(states, 1, places, rows * weights)

    return route


def main():
    rows = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for length in (1024, 2048, 8192):
            scores = torch.randn(SEQUENCES, length, generator=torch.Generator().manual_seed(1))
            k = length * 2 // 3

            def choose():
                _, chosen = torch.topk(scores, k, dim=1, sorted=False)
                return torch.sort(chosen, dim=1)

            rows.append({"rows": length, "threads": threads, "microseconds": microseconds(choose)})
    report = {**peer.machine(), "peer": f"PyTorch {torch.__version__}", "sequences": SEQUENCES, "results": rows}
    peer.write(report, sys.argv[1] if len(sys.argv) > 1 else None)


if __name__ == "__main__":
    main()
