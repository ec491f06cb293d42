#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a GGUF file of the dense SmolLM-135M shape with random weights; llama_cpp.py runs it.

Needs the packages gguf and numpy.
usage: write_gguf.py {f32,bf16} OUTPUT.gguf
"""
import pathlib
import sys

import gguf
import numpy
import peer


def main():
    kind = gguf.GGMLQuantizationType[sys.argv[1].upper()]
    path = pathlib.Path(sys.argv[2])
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    writer.add_vocab_size(peer.VOCABULARY)
    writer.add_context_length(8192)
    writer.add_embedding_length(peer.HIDDEN)
    writer.add_block_count(peer.LAYERS)
    writer.add_feed_forward_length(peer.INTERMEDIATE)
    writer.add_head_count(peer.HEADS)
    writer.add_head_count_kv(peer.KV_HEADS)
    writer.add_rope_dimension_count(peer.HEAD_DIM)
    writer.add_rope_freq_base(peer.ROPE_THETA)
    writer.add_layer_norm_rms_eps(peer.NORM_EPSILON)
    writer.add_tokenizer_model("no_vocab")
    noise = numpy.random.default_rng(1)

    def matrix(name, outputs, inputs):
        weights = noise.standard_normal((outputs, inputs), dtype=numpy.float32) * 0.02
        writer.add_tensor(name + ".weight", gguf.quantize(weights, kind), raw_dtype=kind)

    def norm(name):
        writer.add_tensor(name + ".weight", numpy.ones(peer.HIDDEN, numpy.float32))

    # Tied: without a tensor "output" the embedding is the head.
    matrix("token_embd", peer.VOCABULARY, peer.HIDDEN)
    norm("output_norm")
    keys = peer.KV_HEADS * peer.HEAD_DIM
    for layer in range(peer.LAYERS):
        block = f"blk.{layer}."
        norm(block + "attn_norm")
        matrix(block + "attn_q", peer.HEADS * peer.HEAD_DIM, peer.HIDDEN)
        matrix(block + "attn_k", keys, peer.HIDDEN)
        matrix(block + "attn_v", keys, peer.HIDDEN)
        matrix(block + "attn_output", peer.HIDDEN, peer.HEADS * peer.HEAD_DIM)
        norm(block + "ffn_norm")
        matrix(block + "ffn_gate", peer.INTERMEDIATE, peer.HIDDEN)
        matrix(block + "ffn_up", peer.INTERMEDIATE, peer.HIDDEN)
        matrix(block + "ffn_down", peer.HIDDEN, peer.INTERMEDIATE)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(path)


if __name__ == "__main__":
    main()
