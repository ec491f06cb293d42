// SPDX-License-Identifier: Apache-2.0
//
// mor_parity: runs every case of a directory and compares with what the authors' code computed.
//
// usage: mor_parity [--fault weight|selection]
//
// MOR_FIXTURES names the directory; without it, the cases of this project are run. With --fault
// every case is run with a mistake made on purpose, and is expected to fail.
#include "parity/case.hpp"
#include "parity/comparison.hpp"
#include "parity/runs.hpp"
#include "runs_under_test.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace {

using namespace parity;

struct Counts {
    int passed = 0;
    int failed = 0;
    int skipped = 0;
};

void print_errors(const Comparison& comparison) {
    for (std::size_t kind = 0; kind < kind_names.size(); ++kind) {
        const double error = comparison.largest_error(static_cast<Kind>(kind));
        if (error < 0) {
            std::printf("  %s -", kind_names[kind]);
        } else {
            std::printf("  %s %.1e", kind_names[kind], error);
        }
    }
    std::printf("\n");
}

/// Prints one line, and the first disagreements.
Comparison compare(const Case& reference, const Run& run, const Tolerance& tolerance, Fault fault) {
    Comparison comparison{reference, tolerance, fault};
    try {
        run.run(reference, comparison);
    } catch (const std::exception& error) {
        comparison.problem(error.what());
    }
    const bool passed = comparison.problems().empty();
    std::printf("%-22s %-16s %-6s", reference.name.c_str(), run.name, passed ? "ok" : "FAILED");
    print_errors(comparison);
    constexpr std::size_t most = 8;
    const auto& problems = comparison.problems();
    for (std::size_t i = 0; i < std::min(most, problems.size()); ++i) {
        std::printf("    %s\n", problems[i].c_str());
    }
    if (problems.size() > most) {
        std::printf("    and %zu more\n", problems.size() - most);
    }
    return comparison;
}

void run_case(const std::filesystem::path& path, Fault fault, Counts& counts) {
    try {
        const Case reference = load_case(path);
        std::string skip = reference.missing_feature;
        if (skip.empty() && fault == Fault::selection && reference.routing == Routing::none) {
            skip = "nothing is selected";
        }
        if (!skip.empty()) {
            std::printf("%-22s skipped: %s\n", reference.name.c_str(), skip.c_str());
            ++counts.skipped;
            return;
        }
        bool passed = true;
        for (const Run& run : runs) {
            const Comparison comparison = compare(reference, run, run.tolerance, fault);
            passed = passed && comparison.problems().empty();
            if (run.rounding != nullptr && reference.name != too_close_to_round) {
                const Tolerance tolerance = rounding_tolerance(comparison);
                passed = compare(reference, *run.rounding, tolerance, fault).problems().empty() &&
                         passed;
            }
        }
        ++(passed ? counts.passed : counts.failed);
    } catch (const std::exception& error) {
        std::printf("%-22s FAILED: %s\n", path.stem().string().c_str(), error.what());
        ++counts.failed;
    }
}

std::optional<Fault> read_arguments(int count, char** words) {
    if (count == 1) {
        return Fault::none;
    }
    if (count == 3 && std::string_view{words[1]} == "--fault") {
        const std::string_view fault = words[2];
        if (fault == "weight") {
            return Fault::weight;
        }
        if (fault == "selection") {
            return Fault::selection;
        }
    }
    return std::nullopt;
}

}  // namespace

int main(int count, char** words) {
    const std::optional<Fault> fault = read_arguments(count, words);
    if (!fault) {
        std::fprintf(stderr, "usage: mor_parity [--fault weight|selection]\n");
        return 2;
    }
    const char* const fixtures = std::getenv("MOR_FIXTURES");
    const std::filesystem::path directory = fixtures != nullptr ? fixtures : MOR_PARITY_DATA;
    Counts counts;
    bool found = false;
    try {
        for (const auto& path : find_cases(directory)) {
            found = true;
            run_case(path, *fault, counts);
        }
        if (!found) {
            std::printf("%s: has no case\n", directory.string().c_str());
        }
    } catch (const std::exception& error) {
        std::printf("%s\n", error.what());
    }
    std::printf("%d passed, %d failed, %d skipped\n", counts.passed, counts.failed, counts.skipped);
    return found && counts.failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
