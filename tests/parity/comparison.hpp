// SPDX-License-Identifier: Apache-2.0
//
// Our numbers against the authors': the largest error of each kind, and every disagreement.
#pragma once

#include "parity/case.hpp"

#include <array>
#include <cstddef>
#include <set>
#include <string>
#include <vector>

namespace parity {

enum class Kind { activations, losses, gradients, decode };
inline constexpr std::array<const char*, 4> kind_names{"activations", "losses", "gradients",
                                                       "decode"};

/// Largest absolute difference over the reference tensor's largest absolute value.
struct Tolerance {
    double values;
    double gradients;
};
inline constexpr Tolerance float_tolerance{1e-4, 5e-4};
inline constexpr Tolerance double_tolerance{1e-5, 3e-5};  // the reference is in float

/// Mistakes made on purpose, to see them found.
enum class Fault { none, weight, selection };

class Comparison {
public:
    Comparison(const Case& reference, const Tolerance& tolerance, Fault fault)
        : reference_{reference}, tolerance_{tolerance}, fault_{fault} {}

    template <class T>
    void numbers(Kind kind, const std::string& tensor, const std::vector<T>& ours) {
        compare(kind, tensor, std::vector<double>(ours.begin(), ours.end()));
    }
    void number(Kind kind, const std::string& tensor, double ours) {
        compare(kind, tensor, {ours});
    }
    /// Indices that must be the same.
    void indices(const std::string& tensor, std::vector<Index> ours);
    /// Rows of the packed batch, against a tensor [sequences, kept] of positions.
    void rows(const std::string& tensor, std::vector<Index> ours);

    /// A parameter's values. Throws mor::Error if it is missing or has another shape.
    [[nodiscard]] std::vector<double> parameter(const std::string& tensor,
                                                const std::vector<Index>& shape);

    void problem(std::string text) { problems_.push_back(std::move(text)); }
    /// Adds a problem for every tensor of the case that nothing was compared with.
    void finish();

    [[nodiscard]] const Tolerance& tolerance() const { return tolerance_; }
    [[nodiscard]] Fault fault() const { return fault_; }
    [[nodiscard]] const std::vector<std::string>& problems() const { return problems_; }
    /// Negative if nothing of the kind was compared.
    [[nodiscard]] double largest_error(Kind kind) const {
        return largest_error_[static_cast<std::size_t>(kind)];
    }

private:
    void compare(Kind kind, const std::string& tensor, const std::vector<double>& ours);
    void identical(const std::string& tensor, std::vector<Index>& ours,
                   const std::vector<Index>& theirs);

    const Case& reference_;
    Tolerance tolerance_;
    Fault fault_;
    std::array<double, kind_names.size()> largest_error_{-1, -1, -1, -1};
    std::set<std::string> seen_{"input_ids", "labels"};  // load_case reads these
    std::vector<std::string> problems_;
};

}  // namespace parity
