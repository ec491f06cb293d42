#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch on one GPU: updates, prefill and decoding of the dense SmolLM shapes, eager and compiled,
in bf16 (autocast; for inference bf16 weights) and in float without TF32, and the authors' way of routing:
topk, sort, gather, scatter_add. What benchmarks/cuda measures of this library, by the same counts.

Needs PyTorch. Writes JSON, anew after each case. After so many seconds the case that runs is stopped, and
those that follow are not run.
usage: torch_gpu.py OUTPUT.json [--device cuda] [--shapes 360M,135M] [--dtypes bf16,f32]
    [--modes eager,compile] [--batch 8] [--sequence 2048] [--prompt 512] [--decoded 32]
    [--decode-batches 1,8,32,128] [--repeats 5] [--seconds 3600] [--commit TEXT]
"""
import argparse
import gc
import itertools
import pathlib
import signal
import statistics
import sys
import time

import peer
import torch
import torch_case
import torch_selection

ROOT = pathlib.Path(__file__).resolve().parents[2]
# With the shape that is for trying a program, as in benchmarks/shapes.hpp.
SHAPES = {**peer.SHAPES, "tiny": peer.Shape(32, 8, 48, 2, 1, vocabulary=96, head_dim=16)}
WARM_UP = 2


class Clock:
    """Seconds of calls: by events on a GPU, else by the processor's clock."""

    def __init__(self, device):
        self.is_gpu = device == "cuda"

    def seconds(self, function):
        if not self.is_gpu:
            start = time.perf_counter()
            function()
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    def all_seconds(self, function, repeats):
        for _ in range(WARM_UP):
            self.seconds(function)
        return [self.seconds(function) for _ in range(repeats)]


def flops_of(shape, rows, pairs, logits, updates):
    """Products and attention as this library counts them; an update has thrice a forward pass's."""
    width, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layer = shape.hidden * (2 * width + 2 * narrow + 3 * shape.intermediate)
    products = 2 * (rows * shape.layers * layer + logits * shape.hidden * shape.vocabulary)
    return (3 if updates else 1) * (products + 4 * shape.layers * pairs * width)


def rates(tokens, seconds, flops):
    median = statistics.median(seconds)
    return {
        "tokens": tokens,
        "seconds": median,
        "all_seconds": seconds,
        "tokens_per_second": tokens / median,
        "flops": flops,
    }


def train(options, shape, dtype, compiled, clock):
    if clock.is_gpu:
        torch.cuda.reset_peak_memory_stats()
    step = torch_case.training(shape, dtype, compiled, options.batch, options.sequence, options.device)
    seconds = clock.all_seconds(step, options.repeats)
    tokens = options.batch * options.sequence
    pairs = options.batch * options.sequence * (options.sequence + 1) // 2
    result = rates(tokens, seconds, flops_of(shape, tokens, pairs, tokens, True))
    result["peak_bytes"] = torch.cuda.max_memory_allocated() if clock.is_gpu else peer.peak_bytes()
    return {"training": result}


def decoding(model, tokens, caches, position, compiled):
    """A function that decodes one token for each sequence, and the next when it is called again."""
    if not compiled:
        positions = itertools.count(position)
        return lambda: model(tokens, True, caches, next(positions))
    forward = torch.compile(model, mode="reduce-overhead", fullgraph=True)
    place = torch.tensor([position], device=tokens.device)
    for fixed in (*caches, tokens, place):  # what a graph finds where it was recorded
        torch._dynamo.mark_static_address(fixed)

    def decode():
        forward(tokens, True, caches, place)
        place.add_(1)

    return decode


@torch.inference_mode()
def infer(options, shape, dtype, compiled, clock):
    """Prefill into a cache of fixed size, then one token for each sequence, again and again: eager over the keys
    that are there, compiled over all of the cache with a mask, so that each position is the same CUDA graph."""
    room = options.prompt + options.decoded + WARM_UP
    model = torch_case.Dense(shape, room).to(options.device).eval()
    if dtype == "bf16":
        model = model.to(torch.bfloat16)
    forward = torch.compile(model) if compiled else model
    passes = []
    for batch in options.decode_batches:
        caches = model.make_cache(batch, room)
        tokens = torch.randint(shape.vocabulary, (batch, options.prompt), device=options.device)
        seconds = clock.all_seconds(lambda: forward(tokens, True, caches, 0), options.repeats)
        rows = batch * options.prompt
        flops = flops_of(shape, rows, rows * (options.prompt + 1) // 2, batch, False)
        passes.append({"what": "prefill", "batch": batch, **rates(rows, seconds, flops)})
        decode = decoding(model, tokens[:, :1].contiguous(), caches, options.prompt, compiled)
        seconds = clock.all_seconds(decode, options.decoded)
        pairs = batch * (options.prompt + WARM_UP + (options.decoded + 1) / 2)
        flops = flops_of(shape, batch, pairs, batch, False)
        passes.append({"what": "decode", "batch": batch, **rates(batch, seconds, flops)})
    return {"passes": passes}


def routing(options, shape, clock):
    """A recursion step's routing, forward, for each capacity that two and three recursions have."""
    rows = []
    for num_recursions in (2, 3):
        for step in range(num_recursions):
            before, kept = (max(1, options.sequence * (num_recursions - s) // num_recursions) for s in (max(0, step - 1), step))
            route = torch_selection.routing_step(options.batch, before, kept, shape.hidden, options.device)
            seconds = statistics.median(clock.all_seconds(route, 10 * options.repeats))
            rows.append({"num_recursions": num_recursions, "step": step, "candidates": before, "kept": kept,
                         "microseconds": 1e6 * seconds})
    return {"routing": rows}


def cases(options):
    """(what it is, function that measures it), the most wanted first."""
    clock = Clock(options.device)
    for mode in options.modes:
        for dtype in options.dtypes:
            for name in options.shapes:
                for measure in (train, infer):
                    about = {"shape": name, "model": "vanilla", "precision": dtype, "mode": mode, "case": measure.__name__}
                    yield about, lambda m=measure, n=name, d=dtype, c=mode == "compile": m(options, SHAPES[n], d, c, clock)
        if mode == "eager":
            for name in options.shapes:
                about = {"shape": name, "model": "mor", "precision": "f32", "mode": mode, "case": "routing"}
                yield about, lambda n=name: routing(options, SHAPES[n], clock)


def stop(*_):
    raise TimeoutError("stopped: the time was up")


def measure(function, seconds):
    """What the function returns, or what prevented it."""
    torch.manual_seed(1)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return function()
    except Exception as error:  # too little memory, or no compiler for torch.compile: others go on
        return {"problem": f"{type(error).__name__}: {error}".splitlines()[0]}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.collect()
        torch.compiler.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def parse(words):
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
    parser.add_argument("output")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    for name, default in (("shapes", "360M,135M"), ("dtypes", "bf16,f32"), ("modes", "eager,compile")):
        parser.add_argument(f"--{name}", type=lambda text: text.split(","), default=default.split(","))
    parser.add_argument("--decode-batches", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8, 32, 128])
    for name, default in (("batch", 8), ("sequence", 2048), ("prompt", 512), ("decoded", 32), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--commit", help="of this library, where git cannot tell")
    return parser.parse_args(words)


def main():
    start = time.monotonic()
    options = parse(sys.argv[1:])
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    report = {
        "commit": options.commit or peer.commit(ROOT),
        **peer.machine(),
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "toolkit": f"CUDA {torch.version.cuda}",
        "version": f"PyTorch {torch.__version__}",
        "command": " ".join(pathlib.Path(word).name if "/" in word else word for word in sys.argv),
        "seeds": {"weights": 1, "tokens": 1},
        "batch": options.batch,
        "sequence": options.sequence,
        "prompt": options.prompt,
        "results": [],
    }
    signal.signal(signal.SIGALRM, stop)
    for about, function in cases(options):
        left = options.seconds - (time.monotonic() - start)
        result = measure(function, left) if left > 0 else {"problem": "not run: the time was up"}
        report["results"].append({**about, **result})
        peer.write(report, options.output)


if __name__ == "__main__":
    main()
