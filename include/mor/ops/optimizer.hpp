// SPDX-License-Identifier: Apache-2.0
//
// What an optimiser does to all tensors that it trains, and decides without the host.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/core/parameter.hpp>
#include <mor/core/tensor.hpp>
#include <mor/ops/shape_check.hpp>

#include <algorithm>
#include <type_traits>
#include <vector>

namespace mor {

/// A tensor as an optimiser sees it, flat; all [n].
template <Backend B>
struct TrainedTensor {
    ConstVectorView<B> gradient;
    VectorView<B> value;
    VectorView<B> m;
    VectorView<B> v;
    OptimizerGroup group = OptimizerGroup::model;  // not none
    double rate_factor = 1;                        // on the learning rate
    double decay = 0;
};

/// Elements [first, first + TensorTable::chunk_size) of a tensor, or fewer at its end.
struct TensorChunk {
    Index tensor = 0;
    Index first = 0;
};

/// Trained tensors, listed in the backend's memory for kernels that walk all of them. The views
/// must outlive the table.
template <Backend B>
class TensorTable {
    template <class T>
    using List = Tensor<T, 1, typename B::Space>;

public:
    static constexpr Index chunk_size = 16'384;

    /// Lists nothing.
    TensorTable() = default;

    /// Throws ShapeError if a tensor's views have different sizes.
    explicit TensorTable(const std::vector<TrainedTensor<B>>& tensors) {
        std::vector<TensorChunk> chunks;
        for (Index i = 0; i < std::ssize(tensors); ++i) {
            const TrainedTensor<B>& tensor = tensors[static_cast<std::size_t>(i)];
            const auto& extents = tensor.value.extents();
            ops::expect_extents("adamw", "gradient", tensor.gradient, extents);
            ops::expect_extents("adamw", "m", tensor.m, extents);
            ops::expect_extents("adamw", "v", tensor.v, extents);
            for (Index first = 0; first < tensor.value.size(); first += chunk_size) {
                chunks.push_back({i, first});
            }
        }
        tensors_ = List<TrainedTensor<B>>{{std::ssize(tensors)}};
        chunks_ = List<TensorChunk>{{std::ssize(chunks)}};
        from_host(tensors_.view(), tensors);
        from_host(chunks_.view(), chunks);
    }

    [[nodiscard]] View<const TrainedTensor<B>, 1, typename B::Space> tensors() const {
        return tensors_.view();
    }
    [[nodiscard]] View<const TensorChunk, 1, typename B::Space> chunks() const {
        return chunks_.view();
    }

private:
    List<TrainedTensor<B>> tensors_;
    List<TensorChunk> chunks_;
};

/// One AdamW update (Loshchilov and Hutter 2019), decoupled decay:
///   g = gradient_scale * gradient
///   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
///   value -= learning_rate * (m / correction1 / (sqrt(v / correction2) + epsilon) + decay value)
struct AdamWRule {
    double beta1 = 0;
    double beta2 = 0;
    double epsilon = 0;
};

/// The numbers that change with every update. They are read in the backend's memory.
struct AdamWStep {
    double learning_rate = 0;
    double correction1 = 1;  // 1 - beta1^t
    double correction2 = 1;  // 1 - beta2^t
};
template <Backend B>
using ConstAdamWStepView = View<const AdamWStep, 1, typename B::Space>;

/// A number for each OptimizerGroup that is trained: [num_trained_groups].
template <Backend B>
using GroupView = View<double, 1, typename B::Space>;
template <Backend B>
using ConstGroupView = View<const double, 1, typename B::Space>;

namespace op {
struct GradientNorms {};
struct ClipScales {};
struct AdamW {};
}  // namespace op

namespace ops {

/// Writes the L2 norm of all gradients of each group together, accumulated in double.
template <Backend B>
void gradient_norms(Context<B>& context, const TensorTable<B>& table, GroupView<B> norms) {
    expect_extents("gradient_norms", "norms", norms, {num_trained_groups});
    Kernel<op::GradientNorms, B>::run(context, table, norms);
}

/// Writes what each group's gradients are multiplied by so that their norm is at most `clip`:
/// min(1, clip / (norm + 1e-6)), as torch does. If the loss [1] or any norm is not finite, all
/// scales are NaN, with which adamw changes nothing.
template <Backend B>
void clip_scales(Context<B>& context, double clip, ConstSumView<B> loss, ConstGroupView<B> norms,
                 GroupView<B> scales) {
    expect_extents("clip_scales", "loss", loss, {1});
    expect_extents("clip_scales", "norms", norms, {num_trained_groups});
    expect_extents("clip_scales", "scales", scales, {num_trained_groups});
    Kernel<op::ClipScales, B>::run(context, clip, loss, norms, scales);
}

/// Updates value, m and v of every tensor in place; those of groups whose scale is NaN stay as they
/// are. step [1].
template <Backend B>
void adamw(Context<B>& context, const AdamWRule& rule, ConstAdamWStepView<B> step,
           ConstGroupView<B> scales, const TensorTable<B>& table) {
    expect_extents("adamw", "step", step, {1});
    expect_extents("adamw", "scales", scales, {num_trained_groups});
    Kernel<op::AdamW, B>::run(context, rule, step, scales, table);
}

}  // namespace ops
}  // namespace mor
