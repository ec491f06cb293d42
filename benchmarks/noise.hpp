// SPDX-License-Identifier: Apache-2.0
//
// A text of random tokens: the time that a model takes does not depend on them.
#pragma once

#include <mor/core/random.hpp>
#include <mor/core/types.hpp>

#include <cstdint>
#include <span>
#include <string>

namespace benchmarks {

class Noise {
public:
    explicit Noise(mor::Index vocabulary) : vocabulary_{vocabulary} {}

    [[nodiscard]] static mor::Index size() { return 1 << 20; }
    [[nodiscard]] static const std::string& name() {
        static const std::string name = "noise";
        return name;
    }
    void read(mor::Index offset, std::span<mor::TokenId> out) const {
        mor::Random random{1, static_cast<std::uint64_t>(offset)};
        for (mor::TokenId& token : out) {
            token = static_cast<mor::TokenId>(random.below(vocabulary_));
        }
    }

private:
    mor::Index vocabulary_;
};

}  // namespace benchmarks
