// SPDX-License-Identifier: Apache-2.0
//
// What a pass reads at least: the weights of each layer that it runs, the head's, and the keys and
// values that each row attends to, which rows of one sequence share.
#pragma once

#include <mor/model/config.hpp>
#include <mor/model/observer.hpp>

namespace benchmarks {

/// What a pass reads, in bytes.
struct Reads {
    double weights = 0;
    double keys = 0;

    [[nodiscard]] double sum() const { return weights + keys; }
    Reads& operator+=(const Reads& other) {
        weights += other.weights;
        keys += other.keys;
        return *this;
    }
};

/// What products of a backend read of each weight, in bytes.
template <class Backend>
inline constexpr double weight_bytes = sizeof(typename Backend::Element);

/// Adds up the weights and keys of the layers that a pass runs.
template <class Backend>
class ReadCounter {
public:
    explicit ReadCounter(const mor::ModelConfig& sizes) {
        const auto hidden = static_cast<double>(sizes.hidden_size);
        const auto kv = static_cast<double>(sizes.num_kv_heads * sizes.head_dim);
        const auto heads = static_cast<double>(sizes.num_heads * sizes.head_dim);
        layer_ = weight_bytes<Backend> * hidden *
                 (2 * heads + 2 * kv + 3 * static_cast<double>(sizes.intermediate_size));
        pair_ = 2 * sizeof(mor::ActivationElement<Backend>) * kv;
        reads_.weights = weight_bytes<Backend> * hidden * static_cast<double>(sizes.vocab_size);
    }
    void operator()(const mor::LayerSeen<Backend>& seen) {
        reads_.weights += seen.rows.size() > 0 ? layer_ : 0;
        reads_.keys += pair_ * static_cast<double>(seen.visible_keys);
    }
    [[nodiscard]] const Reads& reads() const { return reads_; }

private:
    double layer_ = 0;
    double pair_ = 0;
    Reads reads_;
};

}  // namespace benchmarks
