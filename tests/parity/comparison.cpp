// SPDX-License-Identifier: Apache-2.0
#include "parity/comparison.hpp"

#include <mor/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <string_view>

namespace parity {

namespace {

/// Tensors of the cases that are not compared, and why.
constexpr std::string_view not_compared[] = {
    "quirk.",            // what the authors' code returns where it has no meaning
    "metric.sampling_",  // how often their predictors agree with top-k: a log entry, no result
};

double relative_error(const std::vector<double>& ours, const std::vector<double>& theirs) {
    double difference = 0;
    double largest = 0;
    for (std::size_t i = 0; i < ours.size(); ++i) {
        if (!std::isfinite(ours[i]) || !std::isfinite(theirs[i])) {
            return std::numeric_limits<double>::infinity();
        }
        difference = std::max(difference, std::abs(ours[i] - theirs[i]));
        largest = std::max(largest, std::abs(theirs[i]));
    }
    return difference == 0 ? 0 : difference / largest;
}

}  // namespace

void Comparison::compare(Kind kind, const std::string& tensor, const std::vector<double>& ours) {
    seen_.insert(tensor);
    const auto theirs = reference_.tensors.read_as<double>(tensor);
    if (ours.size() != theirs.size() || theirs.empty()) {
        problem(tensor + ": has " + std::to_string(theirs.size()) + " numbers, we have " +
                std::to_string(ours.size()));
        return;
    }
    const double error = relative_error(ours, theirs);
    const double tolerance = kind == Kind::gradients ? tolerance_.gradients : tolerance_.values;
    double& largest = largest_error_[static_cast<std::size_t>(kind)];
    largest = std::max(largest, error);
    if (!(error <= tolerance)) {
        std::ostringstream text;
        text << tensor << ": error " << error << ", expected at most " << tolerance;
        problem(text.str());
    }
}

void Comparison::indices(const std::string& tensor, std::vector<Index> ours) {
    identical(tensor, ours, reference_.tensors.read_as<std::int64_t>(tensor));
}

void Comparison::rows(const std::string& tensor, std::vector<Index> ours) {
    auto theirs = reference_.tensors.read_as<std::int64_t>(tensor);
    const auto kept = theirs.size() / static_cast<std::size_t>(reference_.num_sequences);
    for (std::size_t i = 0; i < theirs.size(); ++i) {
        theirs[i] += static_cast<Index>(i / kept) * reference_.length;
    }
    identical(tensor, ours, theirs);
}

void Comparison::identical(const std::string& tensor, std::vector<Index>& ours,
                           const std::vector<Index>& theirs) {
    seen_.insert(tensor);
    if (fault_ == Fault::selection && !ours.empty()) {
        ++ours.back();
    }
    if (ours.size() != theirs.size()) {
        problem(tensor + ": has " + std::to_string(theirs.size()) + " indices, we have " +
                std::to_string(ours.size()));
        return;
    }
    const auto [our, their] = std::mismatch(ours.begin(), ours.end(), theirs.begin());
    if (our != ours.end()) {
        problem(tensor + ": index " + std::to_string(our - ours.begin()) + " is " +
                std::to_string(*their) + ", ours " + std::to_string(*our));
    }
}

std::vector<double> Comparison::parameter(const std::string& tensor,
                                          const std::vector<Index>& shape) {
    seen_.insert(tensor);
    auto values = reference_.tensors.read_as<double>(tensor);
    std::vector<Index> theirs = reference_.tensors.find(tensor)->shape;
    if (theirs.size() == shape.size() + 1 && theirs.front() == 1) {
        theirs.erase(theirs.begin());  // a batch of one: their prompts
    }
    mor::check<mor::ShapeError>(theirs == shape, tensor, ": its shape is not our parameter's");
    return values;
}

void Comparison::finish() {
    for (const auto& tensor : reference_.tensors.tensors()) {
        const bool skipped = std::any_of(
            std::begin(not_compared), std::end(not_compared),
            [&tensor](std::string_view prefix) { return tensor.first.starts_with(prefix); });
        if (!skipped && !seen_.contains(tensor.first)) {
            problem(tensor.first + ": nothing was compared with it");
        }
    }
}

}  // namespace parity
