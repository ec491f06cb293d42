#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a GGUF file of a dense SmolLM shape with random weights; llama_cpp.py runs it.

Needs the packages gguf and numpy.
usage: write_gguf.py {135M,360M} {f32,bf16} OUTPUT.gguf
"""
import pathlib
import sys

import gguf
import numpy
import peer


def main():
    shape = peer.SHAPES[sys.argv[1]]
    kind = gguf.GGMLQuantizationType[sys.argv[2].upper()]
    path = pathlib.Path(sys.argv[3])
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(8192)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(peer.ROPE_THETA)
    writer.add_layer_norm_rms_eps(peer.NORM_EPSILON)
    writer.add_tokenizer_model("no_vocab")
    noise = numpy.random.default_rng(1)

    def matrix(name, outputs, inputs):
        weights = noise.standard_normal((outputs, inputs), dtype=numpy.float32) * 0.02
        writer.add_tensor(name + ".weight", gguf.quantize(weights, kind), raw_dtype=kind)

    def norm(name):
        writer.add_tensor(name + ".weight", numpy.ones(shape.hidden, numpy.float32))

    # Tied: without a tensor "output" the embedding is the head.
    matrix("token_embd", shape.vocabulary, shape.hidden)
    norm("output_norm")
    keys = shape.kv_heads * shape.head_dim
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        norm(block + "attn_norm")
        matrix(block + "attn_q", shape.heads * shape.head_dim, shape.hidden)
        matrix(block + "attn_k", keys, shape.hidden)
        matrix(block + "attn_v", keys, shape.hidden)
        matrix(block + "attn_output", shape.hidden, shape.heads * shape.head_dim)
        norm(block + "ffn_norm")
        matrix(block + "ffn_gate", shape.intermediate, shape.hidden)
        matrix(block + "ffn_up", shape.intermediate, shape.hidden)
        matrix(block + "ffn_down", shape.hidden, shape.intermediate)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(path)


if __name__ == "__main__":
    main()
