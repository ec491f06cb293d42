// SPDX-License-Identifier: Apache-2.0
//
// SwiGLU (Shazeer 2020): y = silu(gate) * up, silu(x) = x / (1 + exp(-x)).
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

namespace op {
struct SwiGlu {};
struct SwiGluBackward {};
}  // namespace op

namespace ops {

/// gate, up, y [rows, intermediate]; y may alias gate or up.
template <Backend B, ProductInput<B> Gate, ProductInput<B> Up, ProductOutput<B> Y>
void swiglu(Context<B>& context, Gate gate, Up up, Y y) {
    expect_extents("swiglu", "up", up, gate.extents());
    expect_extents("swiglu", "y", y, gate.extents());
    Kernel<op::SwiGlu, B>::run(context, gate, up, y);
}

/// Overwrites dgate and dup; either may alias dy.
template <Backend B, ProductInput<B> Gate, ProductInput<B> Up, ProductInput<B> DY,
          ProductOutput<B> DGate, ProductOutput<B> DUp>
void swiglu_backward(Context<B>& context, Gate gate, Up up, DY dy, DGate dgate, DUp dup) {
    expect_extents("swiglu_backward", "up", up, gate.extents());
    expect_extents("swiglu_backward", "dy", dy, gate.extents());
    expect_extents("swiglu_backward", "dgate", dgate, gate.extents());
    expect_extents("swiglu_backward", "dup", dup, gate.extents());
    Kernel<op::SwiGluBackward, B>::run(context, gate, up, dy, dgate, dup);
}

}  // namespace ops
}  // namespace mor
