// SPDX-License-Identifier: Apache-2.0
//
// Compiled without the vector instructions that most processors have: the backend says so once, and
// is silent if asked. Exits with 0 if it does what it should on this processor.
#include <mor/backends/cpu/cpu.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#ifdef __AVX2__
#error "compiled for a newer processor"
#endif

namespace {

/// What reaches the standard error stream meanwhile.
template <class Function>
std::string errors_of(Function&& function) {
    const auto path = std::filesystem::temp_directory_path() / "mor_slow_build.txt";
    if (std::freopen(path.c_str(), "w", stderr) == nullptr) {
        return "cannot be read";
    }
    function();
    std::fflush(stderr);
    std::ifstream in{path};
    return {std::istreambuf_iterator<char>{in}, {}};
}

}  // namespace

int main() {
    const std::string silent = errors_of([] { const mor::Cpu<float> cpu{{.warns = false}}; });
    const std::string loud = errors_of([] {
        const mor::Cpu<float> cpu;
        const mor::Cpu<double> other;
    });
    const std::string start = "mor: WARNING: compiled without";
    const bool once = loud.starts_with(start) && loud.find(start, 1) == std::string::npos;
    const bool expected = mor::cpu::detail::missing_vector_flag() != nullptr;
    return silent.empty() && (expected ? once : loud.empty()) ? 0 : 1;
}
