// SPDX-License-Identifier: Apache-2.0
//
// Tensor<T, Rank, Space>: owns the memory that views look at. Move-only; copies are explicit.
#pragma once

#include <mor/core/space.hpp>
#include <mor/core/types.hpp>
#include <mor/core/view.hpp>

#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

namespace mor {

template <class T, int Rank, MemorySpace Space = HostSpace>
class Tensor {
    static_assert(std::is_trivially_copyable_v<T>);

public:
    using Extents = typename View<T, Rank, Space>::Extents;

    Tensor() = default;

    /// Allocates and sets every element to zero. (Delegates, so that the memory is given back if
    /// that throws.)
    explicit Tensor(const Extents& extents) : Tensor{} {
        view_ = {nullptr, extents};
        view_ = {static_cast<T*>(Space::allocate(size_bytes())), extents};
        Space::zero(view_.data(), size_bytes());
    }

    Tensor(const Tensor&) = delete;
    Tensor& operator=(const Tensor&) = delete;
    Tensor(Tensor&& other) noexcept : view_{std::exchange(other.view_, {})} {}
    Tensor& operator=(Tensor&& other) noexcept {
        std::swap(view_, other.view_);
        return *this;
    }
    ~Tensor() {
        if (view_.data() != nullptr) {
            Space::deallocate(view_.data());
        }
    }

    [[nodiscard]] View<T, Rank, Space> view() { return view_; }
    [[nodiscard]] View<const T, Rank, Space> view() const { return view_; }
    [[nodiscard]] const Extents& extents() const { return view_.extents(); }
    [[nodiscard]] Index size() const { return view_.size(); }
    [[nodiscard]] std::size_t size_bytes() const {
        return static_cast<std::size_t>(view_.size()) * sizeof(T);
    }

    void zero() { Space::zero(view_.data(), size_bytes()); }

private:
    View<T, Rank, Space> view_;
};

/// The elements of a view, in host memory.
template <class T, int Rank, MemorySpace Space>
[[nodiscard]] std::vector<std::remove_const_t<T>> to_host(View<T, Rank, Space> view) {
    std::vector<std::remove_const_t<T>> values(static_cast<std::size_t>(view.size()));
    Space::copy_to_host(values.data(), view.data(), values.size() * sizeof(T));
    return values;
}

/// The same, into a vector whose memory is used again.
template <class T, int Rank, MemorySpace Space>
void to_host(View<T, Rank, Space> view, std::vector<std::remove_const_t<T>>& out) {
    out.resize(static_cast<std::size_t>(view.size()));
    Space::copy_to_host(out.data(), view.data(), out.size() * sizeof(T));
}

/// Overwrites a view with as many elements from host memory as it holds.
template <class T, int Rank, MemorySpace Space>
void from_host(View<T, Rank, Space> view, const std::vector<T>& values) {
    Space::copy_from_host(view.data(), values.data(),
                          static_cast<std::size_t>(view.size()) * sizeof(T));
}

}  // namespace mor
