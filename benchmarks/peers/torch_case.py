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


def attend(queries, keys, values, is_causal=True, seen=None):
    """With each key head serving several query heads. `seen`: which keys are, if not all or the causal ones."""
    how = {"is_causal": is_causal} if seen is None else {"attn_mask": seen}
    if queries.is_cuda and "enable_gqa" in (F.scaled_dot_product_attention.__doc__ or ""):  # from 2.5 on: no copies
        return F.scaled_dot_product_attention(queries, keys, values, **how, enable_gqa=True)
    group = queries.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(group, 1) for x in (keys, values))
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(queries, keys, values, **how)
    scores = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
    if not is_causal:
        return scores.softmax(-1) @ values
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

        self.head_dim = shape.head_dim
        width = shape.heads * shape.head_dim
        self.attention_norm = nn.Parameter(torch.ones(shape.hidden))
        self.query = product(shape.hidden, width)
        self.key = product(shape.hidden, shape.kv_heads * shape.head_dim)
        self.value = product(shape.hidden, shape.kv_heads * shape.head_dim)
        self.output = product(width, shape.hidden)
        self.mlp_norm = nn.Parameter(torch.ones(shape.hidden))
        self.gate = product(shape.hidden, shape.intermediate)
        self.up = product(shape.hidden, shape.intermediate)
        self.down = product(shape.intermediate, shape.hidden)

    def forward(self, hidden, cosine, sine, cache=None, position=0, seen=None):
        """With a cache, keys and values [2, batch, heads, positions, head_dim], that it reads and fills. With
        `seen`, [1, positions], position is a tensor, and all of the cache is read."""
        batch, length, _ = hidden.shape
        x = normalise(hidden, self.attention_norm)

        def heads(product):
            return product(x).view(batch, length, -1, self.head_dim).transpose(1, 2)

        queries = rotate(heads(self.query), cosine, sine).to(hidden.dtype)
        keys = rotate(heads(self.key), cosine, sine).to(hidden.dtype)
        values = heads(self.value).to(hidden.dtype)
        if seen is not None:
            cache[0].index_copy_(2, position, keys)
            cache[1].index_copy_(2, position, values)
            keys, values = cache
        elif cache is not None:
            cache[0, :, :, position : position + length] = keys
            cache[1, :, :, position : position + length] = values
            keys, values = cache[:, :, :, : position + length]
        attended = attend(queries, keys, values, length > 1, seen).transpose(1, 2).reshape(batch, length, -1)
        hidden = hidden + self.output(attended)
        x = normalise(hidden, self.mlp_norm)
        return hidden + self.down(F.silu(self.gate(x)) * self.up(x))


class Dense(nn.Module):
    def __init__(self, shape, length):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.hidden)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        exponents = torch.arange(0, shape.head_dim, 2) / shape.head_dim
        angles = torch.outer(torch.arange(length).float(), peer.ROPE_THETA**-exponents)
        self.register_buffer("cosine", angles.cos().repeat(1, 2))
        self.register_buffer("sine", angles.sin().repeat(1, 2))

    def make_cache(self, batch, positions):
        """One for each block."""
        like = self.embedding.weight
        extents = (2, batch, self.shape.kv_heads, positions, self.shape.head_dim)
        return [torch.zeros(extents, dtype=like.dtype, device=like.device) for _ in self.blocks]

    def forward(self, tokens, last_only, caches=None, position=0):
        """Of a position that is a tensor, [1], the same kernels serve any."""
        hidden = self.embedding(tokens)
        is_fixed = torch.is_tensor(position)
        here = position if is_fixed else slice(position, position + tokens.shape[1])
        seen = torch.arange(caches[0].shape[3], device=tokens.device)[None] <= position if is_fixed else None
        for i, block in enumerate(self.blocks):
            cache = caches[i] if caches else None
            hidden = block(hidden, self.cosine[here], self.sine[here], cache, position, seen)
        if last_only:
            hidden = hidden[:, -1]
        return F.linear(normalise(hidden, self.norm), self.embedding.weight)


def training(shape, dtype, compiled, batch=peer.BATCH, sequence=peer.SEQUENCE, device="cpu"):
    """Forward, loss, backward, AdamW. bf16: float weights, products in bf16 by autocast."""
    model = Dense(shape, sequence).to(device)
    tokens = torch.randint(shape.vocabulary, (batch, sequence + 1), device=device)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)
    try:
        optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    except (RuntimeError, TypeError):  # older versions fuse on GPUs only
        optimiser = torch.optim.AdamW(model.parameters())

    def loss_of(inputs, targets):
        logits = model(inputs, False)
        return F.cross_entropy(logits.view(-1, shape.vocabulary).float(), targets)

    compute_loss = torch.compile(loss_of) if compiled else loss_of

    def step():
        optimiser.zero_grad(set_to_none=True)
        bf16 = torch.autocast(device, dtype=torch.bfloat16)
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
    tokens = torch.randint(shape.vocabulary, (1, peer.PROMPT))
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
