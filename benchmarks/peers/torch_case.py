#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times a dense SmolLM shape in PyTorch: one update of 4 x 256 tokens, or prefill of 512.

Needs PyTorch; beside.py installs it and runs this. Prints JSON: PyTorch's version, and tokens a
second of each repetition after warm-up.
usage: torch_case.py {135M,360M} {train,prefill} {f32,bf16} {eager,compile} THREADS REPETITIONS
"""
import contextlib
import json
import sys
import time

import peer
import torch
from torch import nn
from torch.nn import functional as F

WARM_UP = 2


def normalise(hidden, weight):
    if hasattr(F, "rms_norm"):
        return F.rms_norm(hidden, weight.shape, weight, peer.NORM_EPSILON)
    scale = torch.rsqrt(hidden.float().pow(2).mean(-1, keepdim=True) + peer.NORM_EPSILON)
    return (hidden.float() * scale).to(hidden.dtype) * weight


def attend(queries, keys, values):
    """Causal, with each key head serving several query heads."""
    group = queries.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(group, 1) for x in (keys, values))
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    scores = queries @ keys.transpose(-1, -2) * peer.HEAD_DIM**-0.5
    masked = torch.full(scores.shape[-2:], float("-inf"), dtype=scores.dtype).triu(1)
    return (scores + masked).softmax(-1) @ values


def rotate(heads, cosine, sine):
    first, second = heads.chunk(2, -1)
    return heads * cosine + torch.cat((-second, first), -1) * sine


class Block(nn.Module):
    def __init__(self, shape):
        super().__init__()

        def product(inputs, outputs):
            return nn.Linear(inputs, outputs, bias=False)

        width = shape.heads * peer.HEAD_DIM
        self.attention_norm = nn.Parameter(torch.ones(shape.hidden))
        self.query = product(shape.hidden, width)
        self.key = product(shape.hidden, shape.kv_heads * peer.HEAD_DIM)
        self.value = product(shape.hidden, shape.kv_heads * peer.HEAD_DIM)
        self.output = product(width, shape.hidden)
        self.mlp_norm = nn.Parameter(torch.ones(shape.hidden))
        self.gate = product(shape.hidden, shape.intermediate)
        self.up = product(shape.hidden, shape.intermediate)
        self.down = product(shape.intermediate, shape.hidden)

    def forward(self, hidden, cosine, sine):
        batch, length, _ = hidden.shape
        x = normalise(hidden, self.attention_norm)

        def heads(product):
            return product(x).view(batch, length, -1, peer.HEAD_DIM).transpose(1, 2)

        queries = rotate(heads(self.query), cosine, sine).to(hidden.dtype)
        keys = rotate(heads(self.key), cosine, sine).to(hidden.dtype)
        values = heads(self.value).to(hidden.dtype)
        attended = attend(queries, keys, values).transpose(1, 2).reshape(batch, length, -1)
        hidden = hidden + self.output(attended)
        x = normalise(hidden, self.mlp_norm)
        return hidden + self.down(F.silu(self.gate(x)) * self.up(x))


class Dense(nn.Module):
    def __init__(self, shape, length):
        super().__init__()
        self.embedding = nn.Embedding(peer.VOCABULARY, shape.hidden)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        exponents = torch.arange(0, peer.HEAD_DIM, 2) / peer.HEAD_DIM
        angles = torch.outer(torch.arange(length).float(), peer.ROPE_THETA**-exponents)
        self.register_buffer("cosine", angles.cos().repeat(1, 2))
        self.register_buffer("sine", angles.sin().repeat(1, 2))

    def forward(self, tokens, last_only):
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = block(hidden, self.cosine, self.sine)
        if last_only:
            hidden = hidden[:, -1]
        return F.linear(normalise(hidden, self.norm), self.embedding.weight)


def training(shape, dtype, compiled):
    """Forward, loss, backward, AdamW. bf16: float weights, products in bf16 by autocast."""
    model = Dense(shape, peer.SEQUENCE)
    tokens = torch.randint(peer.VOCABULARY, (peer.BATCH, peer.SEQUENCE + 1))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)
    try:
        optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    except (RuntimeError, TypeError):  # older versions fuse on GPUs only
        optimiser = torch.optim.AdamW(model.parameters())

    def loss_of(inputs, targets):
        logits = model(inputs, False)
        return F.cross_entropy(logits.view(-1, peer.VOCABULARY).float(), targets)

    compute_loss = torch.compile(loss_of) if compiled else loss_of

    def step():
        optimiser.zero_grad(set_to_none=True)
        bf16 = torch.autocast("cpu", dtype=torch.bfloat16)
        with bf16 if dtype == "bf16" else contextlib.nullcontext():
            loss = compute_loss(inputs, targets)
        loss.backward()
        optimiser.step()

    return step


def prefill(shape, dtype, compiled):
    """Logits of the last position. bf16: weights and activations."""
    model = Dense(shape, peer.PROMPT).eval()
    if dtype == "bf16":
        model = model.to(torch.bfloat16)
    tokens = torch.randint(peer.VOCABULARY, (1, peer.PROMPT))
    forward = torch.compile(model) if compiled else model

    def step():
        with torch.inference_mode():
            forward(tokens, True)

    return step


def main():
    shape, case, dtype, mode, threads, repetitions = sys.argv[1:]
    torch.manual_seed(1)
    torch.set_num_threads(int(threads))
    make = {"train": training, "prefill": prefill}[case]
    step = make(peer.SHAPES[shape], dtype, mode == "compile")
    tokens = {"train": peer.BATCH * peer.SEQUENCE, "prefill": peer.PROMPT}[case]
    rates = []
    for _ in range(WARM_UP + int(repetitions)):
        start = time.perf_counter()
        step()
        rates.append(tokens / (time.perf_counter() - start))
    print(json.dumps({"version": torch.__version__, "tokens_per_second": rates[WARM_UP:]}))


if __name__ == "__main__":
    main()
