// SPDX-License-Identifier: Apache-2.0
//
// Halting: rows leave the recursion one by one, and the weights of the steps that a row took add
// up to 1.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

/// What share of a row a step of probability p takes.
enum class HaltingRule {
    accumulate,  // p itself (Graves 2016, "Adaptive Computation Time", equations 7 to 9)
    survive      // p of what is left: the distribution of the first success
};

/// A row is over when its shares reach `threshold`, and in any case in its last step; its last
/// share is what is left.
template <Backend B>
struct Halting {
    HaltingRule rule = HaltingRule::accumulate;
    double threshold = 1;
    bool is_last = false;               // of every row
    ConstIndexView<B> is_last_of = {};  // [n] 1: of this row; or empty
};

namespace op {
struct SelectUnspent {};
struct Halt {};
struct HaltBackward {};
struct PonderCost {};
struct ShareEntropy {};
}  // namespace op

namespace ops {

/// Writes the candidates whose row is not over, ascending, and returns how many. spent [rows] is
/// the sum of a row's shares, exactly 1 if it is over; source [candidates] rows; kept
/// [candidates].
template <Backend B>
[[nodiscard]] Index select_unspent(Context<B>& context, ConstVectorView<B> spent,
                                   ConstIndexView<B> source, IndexView<B> kept) {
    expect_extents("select_unspent", "kept", kept, source.extents());
    return Kernel<op::SelectUnspent, B>::run(context, spent, source, kept);
}

/// One step of the rows `active` [n]: writes their shares and what they had spent before, both
/// [n], and adds the shares to spent [rows]. probability [n] in (0, 1).
template <Backend B>
void halt(Context<B>& context, const Halting<B>& halting, ConstVectorView<B> probability,
          ConstIndexView<B> active, VectorView<B> spent, VectorView<B> before,
          VectorView<B> share) {
    expect_extents("halt", "active", active, probability.extents());
    expect_extents("halt", "before", before, probability.extents());
    expect_extents("halt", "share", share, probability.extents());
    Kernel<op::Halt, B>::run(context, halting, probability, active, spent, before, share);
}

/// Writes the gradient of probability [n] from that of the shares. Steps come last first; carry
/// [rows] passes on what later shares of a row owe to this one, and begins as zero.
template <Backend B>
void halt_backward(Context<B>& context, const Halting<B>& halting, ConstVectorView<B> probability,
                   ConstIndexView<B> active, ConstVectorView<B> before, ConstVectorView<B> dshare,
                   VectorView<B> carry, VectorView<B> dprobability) {
    expect_extents("halt_backward", "dshare", dshare, probability.extents());
    expect_extents("halt_backward", "dprobability", dprobability, probability.extents());
    Kernel<op::HaltBackward, B>::run(context, halting, probability, active, before, dshare, carry,
                                     dprobability);
}

/// The cost is the sum of 1 and, for rows that end in this step, their last share; over all steps
/// that is the ponder cost of Graves 2016, equation 13. Adds scale * its gradient to dshare [n],
/// and factor * the cost to sum [1].
template <Backend B>
void ponder_cost(Context<B>& context, const Halting<B>& halting, ConstVectorView<B> probability,
                 ConstVectorView<B> before, double scale, VectorView<B> dshare, double factor,
                 SumView<B> sum) {
    expect_extents("ponder_cost", "dshare", dshare, probability.extents());
    expect_extents("ponder_cost", "sum", sum, {1});
    Kernel<op::PonderCost, B>::run(context, halting, probability, before, scale, dshare, factor,
                                   sum);
}

/// The negative entropy is the sum of share * log(share). Adds scale * its gradient to dshare [n],
/// and factor * itself to sum [1].
template <Backend B>
void share_entropy(Context<B>& context, ConstVectorView<B> share, double scale,
                   VectorView<B> dshare, double factor, SumView<B> sum) {
    expect_extents("share_entropy", "dshare", dshare, share.extents());
    expect_extents("share_entropy", "sum", sum, {1});
    Kernel<op::ShareEntropy, B>::run(context, share, scale, dshare, factor, sum);
}

}  // namespace ops
}  // namespace mor
