// SPDX-License-Identifier: Apache-2.0
#include <mor/core/tensor.hpp>
#include <mor/core/view.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

using mor::Index;
using mor::Tensor;
using mor::View;

namespace {

/// A space that ordinary code cannot reach into, as a device's.
struct OtherSpace : mor::HostSpace {};

template <class V>
concept Indexable = requires(V v) { v[0]; };

static_assert(mor::MemorySpace<OtherSpace>);
static_assert(Indexable<View<float, 1>>);
static_assert(!Indexable<View<float, 1, OtherSpace>>);
static_assert(std::is_convertible_v<View<float, 2>, View<const float, 2>>);
static_assert(!std::is_convertible_v<View<const float, 2>, View<float, 2>>);
static_assert(!std::is_convertible_v<View<float, 1>, View<float, 1, OtherSpace>>);
static_assert(!std::is_copy_constructible_v<Tensor<float, 1>>);
static_assert(std::is_nothrow_move_constructible_v<Tensor<float, 1>>);

}  // namespace

TEST_CASE("a view is row-major and looks at the same memory as its parts") {
    std::array<int, 12> memory{};
    std::iota(memory.begin(), memory.end(), 0);
    const View<int, 2> view{memory.data(), {3, 4}};
    CHECK(view.rows() == 3);
    CHECK(view.columns() == 4);
    CHECK(view.extent(1) == 4);
    CHECK(view.size() == 12);
    CHECK_FALSE(view.empty());
    CHECK(view(1, 2) == 6);
    CHECK(view.row(2)[3] == 11);
    CHECK(view.row(2).size() == 4);
    CHECK(view.flat()[7] == 7);

    const auto part = view.slice(1, 2);
    CHECK(part.extents() == std::array<Index, 2>{2, 4});
    part(0, 0) = 40;
    CHECK(memory[4] == 40);
    CHECK(view.flat().slice(10, 2)[0] == 10);
    const View<const int, 2> fixed = view;
    CHECK(fixed.data() == view.data());
}

TEST_CASE("a default view and a view with an extent of zero are empty") {
    CHECK(View<int, 1>{}.empty());
    CHECK(View<int, 1>{}.data() == nullptr);
    CHECK(View<int, 2>{nullptr, {5, 0}}.empty());
}

TEST_CASE("views of three extents slice along the first") {
    std::array<int, 24> memory{};
    std::iota(memory.begin(), memory.end(), 0);
    const View<int, 3> view{memory.data(), {2, 3, 4}};
    CHECK(view.slice(1, 1).data() == memory.data() + 12);
    CHECK(view.slice(1, 1).size() == 12);
}

TEST_CASE("a tensor begins with zeros, aligned, and hands over its memory when moved") {
    Tensor<double, 2> tensor{{5, 3}};
    CHECK(tensor.size() == 15);
    CHECK(tensor.size_bytes() == 120);
    CHECK(reinterpret_cast<std::uintptr_t>(tensor.view().data()) % 64 == 0);
    CHECK(mor::to_host(tensor.view()) == std::vector<double>(15, 0.0));

    tensor.view()(4, 2) = 7;
    const double* const data = tensor.view().data();
    Tensor<double, 2> moved{std::move(tensor)};
    CHECK(moved.view().data() == data);
    CHECK(tensor.view().data() == nullptr);  // NOLINT(bugprone-use-after-move): what is tested
    Tensor<double, 2> assigned{{1, 1}};
    assigned = std::move(moved);
    CHECK(assigned.view()(4, 2) == 7);
    CHECK(std::as_const(assigned).view().data() == data);
    assigned.zero();
    CHECK(assigned.view()(4, 2) == 0);
}

TEST_CASE("values go to another space and back") {
    Tensor<float, 1, OtherSpace> tensor{{3}};
    mor::from_host(tensor.view(), std::vector<float>{1, 2, 3});
    CHECK(mor::to_host(std::as_const(tensor).view()) == std::vector<float>{1, 2, 3});
    CHECK(mor::to_host(tensor.view().slice(1, 2)) == std::vector<float>{2, 3});
}
