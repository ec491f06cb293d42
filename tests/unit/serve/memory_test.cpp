// SPDX-License-Identifier: Apache-2.0
//
// Blocks: who has how many, who gives way.
#include <mor/serve/sequence_memory.hpp>

#include <doctest/doctest.h>
#include <unit/serve/serving.hpp>

#include <array>
#include <memory>
#include <vector>

namespace {

using namespace mor::test;
using mor::Index;
using B = ServingBackend;

constexpr Index width = 16;

/// A cache of `blocks` blocks for sequences with two tables, both of which every token fills.
mor::PagedKeyValueCache<B> cache_of(Index blocks, Index block_size) {
    const std::vector<mor::detail::KeyUse> uses{{.layer = 0, .key_layer = 0},
                                                {.layer = 1, .key_layer = 1}};
    return {uses, width, blocks * mor::BlockPool<B>::block_bytes(block_size, width), block_size};
}

void append(mor::PagedKeyValueCache<B>& cache, mor::SequenceTables& tables, Index position) {
    for (mor::BlockTable& table : tables) {
        static_cast<void>(cache.append(table, position));
    }
}

}  // namespace

TEST_CASE("a block is free when nobody holds or keeps it") {
    constexpr Index count = 12;
    mor::BlockPool<B> pool{count, 4, width};
    std::array<Index, count> holders{};
    std::array<Index, count> keepers{};
    mor::Random random{4};
    for (int i = 0; i < 20'000; ++i) {
        const auto block = static_cast<std::size_t>(random.below(count));
        const auto at = static_cast<Index>(block);
        switch (random.below(5)) {
            case 0:
                if (pool.num_free() > 0) {
                    ++holders[static_cast<std::size_t>(pool.allocate())];
                }
                break;
            case 1:
                if (holders[block] + keepers[block] > 0 && holders[block] < 3) {
                    pool.hold(at);
                    ++holders[block];
                }
                break;
            case 2:
                if (holders[block] > 0) {
                    pool.release(at);
                    --holders[block];
                }
                break;
            case 3:
                if (holders[block] > 0 && keepers[block] < 3) {
                    pool.keep(at);
                    ++keepers[block];
                }
                break;
            default:
                if (keepers[block] > 0) {
                    pool.drop(at);
                    --keepers[block];
                }
        }
        Index free = 0;
        Index only_kept = 0;
        for (std::size_t each = 0; each < count; ++each) {
            free += holders[each] + keepers[each] == 0 ? 1 : 0;
            only_kept += holders[each] == 0 && keepers[each] > 0 ? 1 : 0;
        }
        REQUIRE(pool.num_free() == free);
        REQUIRE(pool.num_only_kept() == only_kept);
    }
}

TEST_CASE("no table has a block that it does not need") {
    auto cache = cache_of(64, 4);
    mor::SequenceTables tables = cache.make_tables();
    mor::Random random{5};
    Index position = 0;
    for (int i = 0; i < 20; ++i) {
        const auto rows = random.below(5);
        cache.reserve(tables, rows);
        const auto taken = random.below(rows + 1);
        for (Index row = 0; row < taken; ++row) {
            append(cache, tables, position++);
        }
        cache.trim(tables);
        for (const mor::BlockTable& table : tables) {
            CHECK(std::ssize(table.blocks) == (position + 3) / 4);
        }
    }
    CHECK(position > 10);
    cache.clear(tables);
    CHECK(cache.pool().num_free() == cache.pool().num_blocks());
}

TEST_CASE("the youngest give way to the older, if that is of any use") {
    auto cache = cache_of(20, 1);
    mor::detail::SequenceMemory<B> memory{cache, {.max_prefixes = 0}, 64, 64};
    mor::detail::Queues queues;
    const auto blocks_of = [&](Index number) {
        Index blocks = -1;  // not running
        queues.for_each_running([&](const mor::detail::Queue& queue) {
            for (const auto& sequence : queue) {
                if (sequence->number == number) {
                    blocks = std::ssize(sequence->tables.front().blocks);
                }
            }
        });
        return blocks;
    };
    std::vector<mor::detail::Sequence*> sequences;
    for (const Index rows : {4, 3, 2}) {
        auto sequence = std::make_unique<mor::detail::Sequence>(
            std::make_shared<mor::detail::RequestState>(), std::vector<mor::TokenId>{1},
            mor::RequestOptions{});
        sequence->number = std::ssize(sequences);
        sequence->tables = cache.make_tables();
        cache.reserve(sequence->tables, rows);
        sequences.push_back(sequence.get());
        queues.entering.push_back(std::move(sequence));
    }
    // Two of 20 blocks are free. The oldest alone has more than number 1 could ever get.
    CHECK(!memory.reserve(*sequences[1], 7, queues));
    CHECK(!memory.reserve(*sequences[2], 4, queues));
    CHECK(memory.num_preemptions() == 0);
    CHECK(memory.reserve(*sequences[0], 6, queues));  // two more in each table
    CHECK(blocks_of(0) == 6);
    CHECK(blocks_of(1) == 3);
    CHECK(blocks_of(2) == -1);
    CHECK(memory.reserve(*sequences[0], 10, queues));
    CHECK(blocks_of(0) == 10);
    CHECK(blocks_of(1) == -1);
    CHECK(memory.num_preemptions() == 2);
    CHECK(queues.waiting.front()->number == 1);
    CHECK(queues.waiting.back()->number == 2);
}
