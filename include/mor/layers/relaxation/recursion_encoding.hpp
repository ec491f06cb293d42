// SPDX-License-Identifier: Apache-2.0
//
// Recursion encoding: a vector for every pass over the shared layers, by which its output is
// multiplied, element by element. One model then knows which recursion it is in.
#pragma once

#include <mor/core/parameter.hpp>
#include <mor/layers/relaxation/none.hpp>
#include <mor/ops/copy.hpp>
#include <mor/ops/scale.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mor {

/// "<layer>.recursion_encoding.<unrolled layer>" [hidden], ones at first, for each use that ends a
/// pass.
template <Backend B>
class EncodedOutput {
public:
    static constexpr bool is_empty = false;
    struct Saved {
        ConstMatrixView<B> x;  // [rows, hidden] before
    };

    EncodedOutput(const LayerUses& uses, const std::string& name, Index hidden) {
        for (const LayerUses::Use& use : uses.uses) {
            auto& vector = vectors_.emplace_back();
            if (use.ends_step) {
                vector.emplace(uses.name_of(name, use), std::vector<Index>{hidden},
                               WeightDecay::yes);
                vector->fill(1.0);
            }
        }
    }

    /// Changes x [rows, hidden] in place.
    void forward(Context<B>& context, Index use, MatrixView<B> x, Saved& saved) const {
        if (const auto& vector = vectors_[static_cast<std::size_t>(use)]) {
            const MatrixView<B> before = context.matrix(x.rows(), x.columns());
            ops::copy<B>(context, x, before);
            saved.x = before;
            ops::scale_columns<B>(context, x, vector->value(), x);
        }
    }
    /// Changes the gradient dx in place, and adds to that of the vector.
    void backward(Context<B>& context, Index use, const Saved& saved, MatrixView<B> dx) {
        if (auto& vector = vectors_[static_cast<std::size_t>(use)]) {
            ops::scale_columns_backward<B>(context, saved.x, std::as_const(*vector).value(), dx, dx,
                                           vector->gradient());
        }
    }

    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        for (auto& vector : vectors_) {
            if (vector) {
                visitor(*vector);
            }
        }
    }

private:
    std::vector<std::optional<Parameter<B>>> vectors_;  // [uses]
};

struct RecursionEncoding : NoRelaxation {
    static constexpr std::string_view name = "recursion_encoding";
    template <Backend B>
    using Output = EncodedOutput<B>;
};

}  // namespace mor
