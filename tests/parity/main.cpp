// SPDX-License-Identifier: Apache-2.0
//
// mor_parity: runs every case of a directory and compares with what the authors' code computed.
//
// usage: mor_parity [--backend NAME] [--fault weight|selection]
//
// MOR_FIXTURES names the directory; without it, the cases of this project are run. NAME is a
// backend of this program, for all its runs, or one run, like "cpu double". With --fault every case
// is run with a mistake made on purpose, and is expected to fail.
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
#include <vector>

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

/// The run that rounds a case, of a run and those that take what it leaves out.
const Run* rounding_of(const Case& reference, const Run* run) {
    while (run != nullptr && std::find(run->leaves_out.begin(), run->leaves_out.end(),
                                       reference.name) != run->leaves_out.end()) {
        run = run->otherwise;
    }
    return run;
}

void run_case(const std::filesystem::path& path, const std::vector<Run>& selected, Fault fault,
              Counts& counts) {
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
        for (const Run& run : selected) {
            const Comparison comparison = compare(reference, run, run.tolerance, fault);
            passed = passed && comparison.problems().empty();
            if (const Run* const rounding = rounding_of(reference, run.rounding)) {
                const Tolerance tolerance = rounding_tolerance(comparison);
                passed =
                    compare(reference, *rounding, tolerance, fault).problems().empty() && passed;
            }
        }
        ++(passed ? counts.passed : counts.failed);
    } catch (const std::exception& error) {
        std::printf("%-22s FAILED: %s\n", path.stem().string().c_str(), error.what());
        ++counts.failed;
    }
}

struct Arguments {
    std::string_view backend = {};  // empty: all
    Fault fault = Fault::none;
};

std::optional<Arguments> read_arguments(int count, char** words) {
    Arguments arguments;
    for (int i = 1; i < count; i += 2) {
        const std::string_view name = words[i];
        const std::string_view value = i + 1 < count ? words[i + 1] : "";
        if (name == "--backend" && !value.empty()) {
            arguments.backend = value;
        } else if (name == "--fault" && value == "weight") {
            arguments.fault = Fault::weight;
        } else if (name == "--fault" && value == "selection") {
            arguments.fault = Fault::selection;
        } else {
            return std::nullopt;
        }
    }
    return arguments;
}

/// The runs of a backend, or the one of that name.
std::vector<Run> runs_of(std::string_view backend) {
    std::vector<Run> selected;
    for (const Run& run : runs) {
        const std::string_view name = run.name;
        const bool is_its =
            name.starts_with(backend) && name.substr(backend.size()).starts_with(' ');
        if (backend.empty() || name == backend || is_its) {
            selected.push_back(run);
        }
    }
    return selected;
}

void say_which_there_are(std::string_view backend) {
    const std::string wanted{backend};
    std::fprintf(stderr, "mor_parity: this program does not run '%s'; it runs", wanted.c_str());
    const char* between = " ";
    for (const Run& run : runs) {
        std::fprintf(stderr, "%s'%s'", between, run.name);
        between = ", ";
    }
    const bool is_of_gpu = backend == "cuda" || backend.starts_with("cuda ");
    std::fprintf(stderr, "%s\n",
                 is_of_gpu ? "; the GPU's are in the program cuda_parity_test, which is built "
                             "where MOR_CUDA finds the CUDA toolkit"
                           : "");
}

}  // namespace

int main(int count, char** words) {
    const std::optional<Arguments> arguments = read_arguments(count, words);
    if (!arguments) {
        std::fprintf(stderr, "usage: mor_parity [--backend NAME] [--fault weight|selection]\n");
        return 2;
    }
    const std::vector<Run> selected = runs_of(arguments->backend);
    if (selected.empty()) {
        say_which_there_are(arguments->backend);
        return 2;
    }
    const char* const fixtures = std::getenv("MOR_FIXTURES");
    const std::filesystem::path directory = fixtures != nullptr ? fixtures : MOR_PARITY_DATA;
    Counts counts;
    bool found = false;
    try {
        for (const auto& path : find_cases(directory)) {
            found = true;
            run_case(path, selected, arguments->fault, counts);
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
