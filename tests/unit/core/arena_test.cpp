// SPDX-License-Identifier: Apache-2.0
#include <mor/core/arena.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

using mor::Index;
using Arena = mor::Arena<mor::HostSpace>;

namespace {

constexpr Index megabyte = Index{1} << 20;

/// `bytes` of the arena, filled with `value` so that overlaps show.
mor::View<unsigned char, 1> block(Arena& arena, Index bytes, unsigned char value) {
    const auto view = arena.make<unsigned char, 1>({bytes});
    std::fill_n(view.data(), bytes, value);
    return view;
}

bool holds(const mor::View<unsigned char, 1>& view, unsigned char value) {
    return std::all_of(view.data(), view.data() + view.size(),
                       [value](unsigned char byte) { return byte == value; });
}

}  // namespace

TEST_CASE("a fresh arena holds nothing") {
    Arena arena;
    CHECK(arena.capacity_bytes() == 0);
    CHECK(arena.allocations() == 0);
    arena.release(arena.mark());
    CHECK(arena.allocations() == 0);
}

TEST_CASE("pieces do not overlap and are aligned, also across chunks") {
    Arena arena;
    std::vector<mor::View<unsigned char, 1>> pieces;
    for (unsigned char i = 0; i < 100; ++i) {
        pieces.push_back(block(arena, 1 + i * 997, i));
    }
    CHECK(arena.allocations() > 1);
    for (unsigned char i = 0; i < 100; ++i) {
        CHECK(reinterpret_cast<std::uintptr_t>(pieces[i].data()) % 64 == 0);
        CHECK(holds(pieces[i], i));
    }
}

TEST_CASE("make gives the asked extents, make_zero zeros") {
    Arena arena;
    block(arena, 4'096, 0xFF);
    arena.release({});
    const auto zeros = arena.make_zero<double, 2>({16, 8});
    CHECK(zeros.extents() == std::array<Index, 2>{16, 8});
    CHECK(std::all_of(zeros.data(), zeros.data() + 128, [](double x) { return x == 0; }));
    CHECK(arena.make<float, 2>({0, 8}).empty());
}

TEST_CASE("released memory is used again, and what lies before the mark stays") {
    Arena arena;
    const auto kept = block(arena, 1'000, 1);
    const auto mark = arena.mark();
    const auto first = block(arena, 1'000, 2);
    arena.release(mark);
    const auto second = block(arena, 1'000, 3);
    CHECK(second.data() == first.data());
    CHECK(holds(kept, 1));
    CHECK(arena.allocations() == 1);
}

TEST_CASE("a scope releases what was made inside it, scopes nest") {
    Arena arena;
    block(arena, 64, 1);
    unsigned char* inner_data = nullptr;
    unsigned char* outer_data = nullptr;
    {
        const Arena::Scope outer{arena};
        outer_data = block(arena, 64, 2).data();
        {
            const Arena::Scope inner{arena};
            inner_data = block(arena, 64, 3).data();
        }
        CHECK(block(arena, 64, 4).data() == inner_data);
    }
    CHECK(block(arena, 64, 5).data() == outer_data);
}

TEST_CASE("a mark taken before the arena held anything releases everything") {
    Arena arena;
    const auto mark = arena.mark();
    const auto* const first = block(arena, 64, 1).data();
    arena.release(mark);
    CHECK(block(arena, 64, 2).data() == first);
}

TEST_CASE("memory that grew in pieces becomes one, and then no more is taken") {
    Arena arena;
    const auto pass = [&arena] {
        arena.release({});
        for (unsigned char i = 0; i < 12; ++i) {
            block(arena, megabyte / 2, i);
        }
    };
    pass();
    CHECK(arena.allocations() > 1);
    pass();
    const Index allocations = arena.allocations();
    const auto bytes = arena.capacity_bytes();
    CHECK(bytes >= static_cast<std::size_t>(6 * megabyte));
    for (int i = 0; i < 5; ++i) {
        pass();
    }
    CHECK(arena.allocations() == allocations);
    CHECK(arena.capacity_bytes() == bytes);
}

TEST_CASE("releasing to a mark in an earlier chunk keeps that chunk's content") {
    Arena arena;
    const auto kept = block(arena, megabyte - 64, 1);
    const auto mark = arena.mark();
    block(arena, 3 * megabyte, 2);
    arena.release(mark);
    block(arena, 64, 3);  // fits behind `kept`
    block(arena, 2 * megabyte, 4);
    CHECK(holds(kept, 1));
    CHECK(arena.allocations() == 2);
}

TEST_CASE("one piece larger than any chunk so far gets a chunk of its own") {
    Arena arena;
    CHECK(holds(block(arena, 5 * megabyte, 7), 7));
    CHECK(arena.allocations() == 1);
    CHECK(arena.capacity_bytes() == static_cast<std::size_t>(5 * megabyte));
}
