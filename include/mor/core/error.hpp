// SPDX-License-Identifier: Apache-2.0
//
// One exception hierarchy, and the two functions that throw it. The library never aborts,
// exits or prints.
#pragma once

#include <concepts>
#include <sstream>
#include <stdexcept>
#include <string>

namespace mor {

/// Base of everything the library throws.
class Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Two tensors, or a tensor and a configuration, do not fit together.
class ShapeError : public Error {
public:
    using Error::Error;
};

/// A size or hyper-parameter is impossible, unknown or contradicts another.
class ConfigError : public Error {
public:
    using Error::Error;
};

/// A file is missing, unreadable, malformed, or could not be written. The message names it.
class IoError : public Error {
public:
    using Error::Error;
};

/// A loss or gradient became NaN or infinite.
class NumericError : public Error {
public:
    using Error::Error;
};

/// Throws `E` with the parts written one after another.
template <std::derived_from<Error> E, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
    std::ostringstream message;
    (message << ... << parts);
    throw E{message.str()};
}

/// Throws `E` unless `holds`. The message is only put together when it is needed.
template <std::derived_from<Error> E, class... Parts>
void check(bool holds, const Parts&... parts) {
    if (!holds) [[unlikely]] {
        fail<E>(parts...);
    }
}

}  // namespace mor
