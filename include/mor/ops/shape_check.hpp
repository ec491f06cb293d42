// SPDX-License-Identifier: Apache-2.0
//
// The shape check that every operation makes before its kernel runs: O(1), always on.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/format.hpp>
#include <mor/core/view.hpp>

#include <string_view>

namespace mor::ops {

/// Throws ShapeError unless `view` has exactly the expected extents. The message reads
/// "mor::ops::rms_norm: weight is [512], expected [576]".
template <class T, int Rank, MemorySpace Space>
void expect_extents(std::string_view operation, std::string_view argument,
                    const View<T, Rank, Space>& view,
                    const typename View<T, Rank, Space>::Extents& expected) {
    if (view.extents() != expected) [[unlikely]] {
        fail<ShapeError>("mor::ops::", operation, ": ", argument, " is ",
                         format_extents(view.extents()), ", expected ", format_extents(expected));
    }
}

}  // namespace mor::ops
