#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How far PyTorch's own bf16 is from the authors' numbers in float: what mor_parity asks of this library's.

Computes cases of tests/data/parity, whose decisions are given, in float, in bf16 by autocast, and with weights and
activations all in bf16. Prints, and writes as JSON, for each kind of number the largest difference over the tensor's
largest absolute value. Needs PyTorch, no GPU.
usage: torch_bfloat16.py OUTPUT.json [CASE...]     (default: every case that it can compute)
"""
import contextlib
import json
import pathlib
import struct
import sys

import peer
import torch
from torch.nn import functional as F

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data/parity"
TYPES = {"F32": torch.float32, "I64": torch.int64}
WAYS = ("float", "autocast", "bf16")


def load(name):
    content = (DATA / f"{name}.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for key, entry in header.items():
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        flat = torch.frombuffer(bytearray(content[begin:end]), dtype=TYPES[entry["dtype"]])
        tensors[key] = flat.reshape(entry["shape"])
    return json.loads((DATA / f"{name}.json").read_text()), tensors


class Model:
    """One case: forward pass, loss and gradients, by its own weights and the authors' decisions."""

    def __init__(self, name, dtype):
        self.case, self.tensors = load(name)
        self.config = self.case["model_config"]
        self.params = {
            key.removeprefix("param."): value.to(dtype).requires_grad_()
            for key, value in self.tensors.items()
            if key.startswith("param.")
        }
        self.names = {alias: owner for owner, aliases in self.case["aliases"].items() for alias in aliases}
        size = self.config["head_dim"]
        frequencies = self.config["rope_theta"] ** (-torch.arange(0, size, 2).float() / size)
        angles = torch.outer(torch.arange(self.tensors["input_ids"].shape[1]).float(), frequencies).repeat(1, 2)
        self.cosine, self.sine = angles.cos(), angles.sin()
        self.moved = 0  # tokens that its own scores would have chosen in others' place

    def weight(self, name):
        return self.params[self.names.get(name, name)]

    def norm(self, x, name):
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.config["rms_norm_eps"])
        return self.weight(name) * y.to(x.dtype)

    def layer(self, x, at, positions):
        """x [rows, hidden] of one sequence, at these positions: attention sees no others."""
        heads = lambda name: F.linear(y, self.weight(f"{at}.self_attn.{name}.weight")).unflatten(-1, (-1, size)).transpose(0, 1)
        rotate = lambda z: z * cosine + torch.cat((-z[..., size // 2 :], z[..., : size // 2]), -1) * sine
        size = self.config["head_dim"]
        y = self.norm(x, f"{at}.input_layernorm.weight")
        cosine, sine = self.cosine[positions].to(y.dtype), self.sine[positions].to(y.dtype)
        query, key, value = rotate(heads("q_proj")), rotate(heads("k_proj")), heads("v_proj")
        group = len(query) // len(key)
        key, value = key.repeat_interleave(group, 0), value.repeat_interleave(group, 0)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + F.linear(attended.transpose(0, 1).flatten(1), self.weight(f"{at}.self_attn.o_proj.weight"))
        y = self.norm(x, f"{at}.post_attention_layernorm.weight")
        gate, up, down = (self.weight(f"{at}.mlp.{name}_proj.weight") for name in ("gate", "up", "down"))
        return x + F.linear(F.silu(F.linear(y, gate)) * F.linear(y, up), down)

    def stack(self, x, layers, positions):
        for at in layers:
            x = self.layer(x, at, positions)
        return x

    def expert_choice(self, x, s, at, step):
        options = self.case["config"]["mor"]
        expert = options["expert"]
        before = self.tensors[f"selected.{step - 1}"][s] if step else torch.arange(len(x))
        chosen = self.tensors[f"selected.{step}"][s]
        function = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}.get(expert["router_func"])
        gate = F.linear(x / options["temp"], self.weight(f"{at}.mor_router.router.weight"))[:, 0]
        gate = expert["alpha"] * function(gate) if function else gate
        own = before[gate[before].float().topk(len(chosen)).indices]
        self.moved += len(set(own.tolist()) - set(chosen.tolist()))
        result = self.stack(x[chosen], self.blocks(at), chosen)
        if expert["gating"] == "weighted":
            result = gate[chosen, None] * result
        return x.index_add(0, chosen, result.to(x.dtype))

    def blocks(self, at):
        return [f"{at}.block.{i}" for i in range(self.case["derived"]["base_depth"])]

    def forward(self):
        ids = self.tensors["input_ids"]
        everything = torch.arange(ids.shape[1])
        hidden = []
        for s, sequence in enumerate(ids):
            x = F.embedding(sequence, self.weight("model.embed_tokens.weight"))
            step = 0
            for i in range(self.case["num_top_level_layers"]):
                at = f"model.layers.{i}"
                if f"{at}.mor_router.router.weight" in self.params:
                    x, step = self.expert_choice(x, s, at, step), step + 1
                else:
                    x = self.layer(x, at, everything)
            hidden.append(self.norm(x, "model.norm.weight"))
        final = torch.stack(hidden)
        head = "lm_head.weight" if "lm_head.weight" in self.params else "model.embed_tokens.weight"
        return final, F.linear(final, self.weight(head))

    def loss(self, logits):
        """Of the language model alone, as the authors divide it."""
        targets = self.tensors["labels"][:, 1:].reshape(-1)
        total = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets, ignore_index=-100, reduction="sum")
        return total / self.case["num_items_in_batch"]


def is_computed(name):
    """Cases of plain recursion, and of expert choice by linear routers, with the keys of each recursion."""
    case, tensors = load(name)
    config = case.get("config") or {}
    plain = not (config.get("kv_sharing") or {}).get("enable") and not name.startswith("relax")
    same = "train.selected.0" not in tensors or all(
        torch.equal(tensors[f"train.selected.{s}"], tensors[f"selected.{s}"]) for s in range(3) if f"selected.{s}" in tensors
    )
    linear = not any("mlp_router" in key or "mor_router.router.0" in key for key in tensors)
    routed = any("mor_router.router.weight" in key for key in tensors)
    return plain and same and linear and not name.startswith("tc_") and (routed or not name.startswith("ec_"))


def difference(ours, theirs):
    return ((ours.float() - theirs).abs().max() / theirs.abs().max()).item()


def compare(name, way):
    model = Model(name, torch.bfloat16 if way == "bf16" else torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16) if way == "autocast" else contextlib.nullcontext():
        final, logits = model.forward()
        loss = model.loss(logits)
    result = {
        "activations": max(difference(final, model.tensors["hidden.final"]), difference(logits, model.tensors["logits"])),
        "losses": difference(loss, model.tensors["loss.lm"][0]),
        "moved": model.moved,
    }
    if "loss.sampling" not in model.tensors:  # else the gradients are of more than this loss
        loss.backward()
        result["gradients"] = max(
            difference(value.grad, model.tensors[f"grad.{key}"]) for key, value in model.params.items()
        )
    return result


def main():
    output, *names = sys.argv[1:]
    names = names or sorted(path.stem for path in DATA.glob("*.safetensors") if is_computed(path.stem))
    report = {"commit": peer.commit(ROOT), **peer.machine(), "version": f"PyTorch {torch.__version__}", "cases": {}}
    for name in names:
        report["cases"][name] = {way: compare(name, way) for way in WAYS}
        for way, found in report["cases"][name].items():
            numbers = "  ".join(f"{kind} {value:.1e}" for kind, value in found.items() if kind != "moved")
            print(f"{name:24}{way:10}{numbers}  moved {found['moved']}")
    peer.write(report, output)


if __name__ == "__main__":
    main()
