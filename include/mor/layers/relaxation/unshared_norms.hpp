// SPDX-License-Identifier: Apache-2.0
//
// Norms of its own for every use of a layer; everything else stays shared.
#pragma once

#include <mor/layers/relaxation/none.hpp>

#include <string_view>

namespace mor {

/// "<layer>.input_layernorm.weight.<unrolled layer>", and the other norm likewise.
struct UnsharedNorms : NoRelaxation {
    static constexpr std::string_view name = "unshared_norms";
    template <Backend B>
    using Norm = Unshared<RmsNorm<B>>;
};

}  // namespace mor
