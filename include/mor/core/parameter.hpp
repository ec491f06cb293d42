// SPDX-License-Identifier: Apache-2.0
//
// A trained tensor and its gradient. Layers own parameters; weights shared between recursion
// steps are one Parameter, so their gradients add up in one place.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/core/error.hpp>
#include <mor/core/random.hpp>
#include <mor/core/tensor.hpp>

#include <array>
#include <atomic>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace mor {

/// Whether AdamW shrinks the parameter (paper: matrices yes, norms no).
enum class WeightDecay { yes, no };

/// Which group of the optimiser trains a parameter: groups have their own learning rates and are
/// clipped apart. `none`: not trained by gradients, but saved with the others.
enum class OptimizerGroup { model, auxiliary_router, none };
inline constexpr Index num_trained_groups = 2;

namespace detail {

/// The packed copy of a weight, if there is one; nothing for backends without.
template <Backend B>
struct PackedCopy {
    void forget() {}
};
template <PacksWeights B>
class PackedCopy<B> {
public:
    void forget() { state_->is_current = false; }
    [[nodiscard]] bool is_current() const { return state_->is_current; }
    [[nodiscard]] const auto& get(const B& backend, ConstMatrixView<B> weight) const {
        if (!state_->is_current) {
            const std::lock_guard lock{state_->mutex};
            if (!state_->is_current) {
                state_->weight.pack(backend, weight);
                state_->is_current = true;
            }
        }
        return state_->weight;
    }

private:
    struct State {
        std::mutex mutex;
        std::atomic<bool> is_current = false;
        typename B::PackedWeight weight;
    };
    std::unique_ptr<State> state_ = std::make_unique<State>();
};

}  // namespace detail

template <Backend B>
class Parameter {
public:
    using Element = typename B::Element;

    /// Zeros. Throws ShapeError if an extent is not positive or their product overflows.
    Parameter(std::string name, std::vector<Index> shape, WeightDecay decay)
        : name_{std::move(name)},
          shape_{std::move(shape)},
          decay_{decay},
          value_{{count(shape_)}},
          gradient_{{count(shape_)}} {}

    /// The checkpoint's tensor name, for example "model.layers.1.self_attn.q_proj.weight".
    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] const std::vector<Index>& shape() const { return shape_; }
    [[nodiscard]] WeightDecay decay() const { return decay_; }
    [[nodiscard]] OptimizerGroup group() const { return group_; }
    void set_group(OptimizerGroup group) { group_ = group; }
    [[nodiscard]] Index size() const { return value_.size(); }

    /// For writing: what is written through the view counts from the next pass on, if value() or
    /// value_matrix() was called since the last.
    [[nodiscard]] VectorView<B> value() {
        packed_.forget();
        return value_.view();
    }
    [[nodiscard]] ConstVectorView<B> value() const { return value_.view(); }
    [[nodiscard]] VectorView<B> gradient() { return gradient_.view(); }
    [[nodiscard]] ConstVectorView<B> gradient() const { return gradient_.view(); }

    /// The same as [shape[0], shape[1]]; only for parameters of rank 2.
    [[nodiscard]] MatrixView<B> value_matrix() { return {value().data(), matrix_extents()}; }
    [[nodiscard]] ConstMatrixView<B> value_matrix() const {
        return {value_.view().data(), matrix_extents()};
    }
    [[nodiscard]] MatrixView<B> gradient_matrix() {
        return {gradient_.view().data(), matrix_extents()};
    }

    /// The value as the backend's products like it; packed at the first call after it was written.
    /// Several threads may call it at
    /// once, while none writes the value.
    [[nodiscard]] const auto& packed(const B& backend) const
        requires PacksWeights<B>
    {
        return packed_.get(backend, value_matrix());
    }
    [[nodiscard]] bool is_packed() const
        requires PacksWeights<B>
    {
        return packed_.is_current();
    }

    void zero_gradient() { gradient_.zero(); }

    void fill(double value) {
        from_host(this->value(), std::vector<Element>(static_cast<std::size_t>(size()),
                                                      static_cast<Element>(value)));
    }

    /// Draws every element from a normal distribution with mean 0.
    void fill_normal(Random& random, double deviation) {
        std::vector<Element> values(static_cast<std::size_t>(size()));
        for (Element& value : values) {
            value = static_cast<Element>(deviation * random.normal());
        }
        from_host(value(), values);
    }

private:
    static Index count(const std::vector<Index>& shape) {
        Index product = 1;
        for (const Index extent : shape) {
            check<ShapeError>(extent > 0, "mor::Parameter: an extent is ", extent,
                              ", expected at least 1");
            constexpr Index largest = std::numeric_limits<Index>::max() / Index{sizeof(Element)};
            check<ShapeError>(extent <= largest / product,
                              "mor::Parameter: the extents multiply to more than ", largest);
            product *= extent;
        }
        return product;
    }
    [[nodiscard]] std::array<Index, 2> matrix_extents() const {
        check<ShapeError>(shape_.size() == 2, name_, ": has rank ", shape_.size(), ", expected 2");
        return {shape_[0], shape_[1]};
    }

    std::string name_;
    std::vector<Index> shape_;
    WeightDecay decay_;
    OptimizerGroup group_ = OptimizerGroup::model;
    Tensor<Element, 1, typename B::Space> value_;
    Tensor<Element, 1, typename B::Space> gradient_;
    detail::PackedCopy<B> packed_;
};

}  // namespace mor
