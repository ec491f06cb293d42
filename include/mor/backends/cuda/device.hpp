// SPDX-License-Identifier: Apache-2.0
//
// Cuda<T, System>: the GPU backend.
#pragma once

#include <mor/backends/cuda/system.hpp>
#include <mor/core/backend.hpp>

#include <concepts>
#include <string_view>
#include <utility>

namespace mor {

namespace cuda::detail {

/// What is kept of a weight for the products of S: nothing, which is no packed weight, if they read
/// it as it is.
template <class S>
struct PackedWeightOf {
    struct Type {};
};
template <class S>
    requires requires { typename S::PackedWeight; }
struct PackedWeightOf<S> {
    using Type = typename S::PackedWeight;
};

/// The numbers of activations inside a layer: T, unless S names another type.
template <class T, class S>
struct ActivationElementFor {
    using Type = T;
};
template <class T, class S>
    requires requires { typename S::ActivationElement; }
struct ActivationElementFor<T, S> {
    using Type = typename S::ActivationElement;
};

}  // namespace cuda::detail

/// Computes in T by kernels that `S` runs. `mor::Cuda<float>` needs nvcc and a GPU;
/// `mor::Cuda<float, mor::cuda::HostSystem>` neither.
template <std::floating_point T, cuda::System S>
class Cuda {
public:
    using Element = T;
    using ActivationElement = typename cuda::detail::ActivationElementFor<T, S>::Type;
    using System = S;
    using Space = typename S::Space;
    using PackedWeight = typename cuda::detail::PackedWeightOf<S>::Type;
    static constexpr std::string_view name = S::name;

    Cuda() = default;
    explicit Cuda(S system) : system_{std::move(system)} {}

    [[nodiscard]] const S& system() const { return system_; }

private:
    S system_;
};

}  // namespace mor
