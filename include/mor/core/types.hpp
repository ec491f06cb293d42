// SPDX-License-Identifier: Apache-2.0
//
// The two integer types of the library.
#pragma once

#include <mor/config.hpp>

#include <cstdint>

namespace mor {

/// Every size, offset and row number on the host. Signed, so that differences are safe.
using Index = std::int64_t;

/// A symbol of the vocabulary. Negative values mean "ignore" where a target is expected.
using TokenId = std::int32_t;

}  // namespace mor
