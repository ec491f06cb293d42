// SPDX-License-Identifier: Apache-2.0
//
// Memory for keys and values in blocks of one size, from one pool, with reference counts: of those
// who hold a block, and of those who keep it only as long as there is room.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/core/error.hpp>

#include <vector>

namespace mor {

template <Backend B>
class BlockPool {
public:
    using Number = ActivationElement<B>;

    /// `num_blocks` blocks of `block_size` entries of key_width keys and as many values.
    BlockPool(Index num_blocks, Index block_size, Index key_width)
        : block_size_{block_size},
          keys_{{num_blocks * block_size, key_width}},
          values_{{num_blocks * block_size, key_width}},
          references_(static_cast<std::size_t>(num_blocks)) {
        for (Index block = num_blocks; block > 0; --block) {
            free_.push_back(block - 1);
        }
    }

    /// Bytes of the keys and values of one block.
    [[nodiscard]] static Index block_bytes(Index block_size, Index key_width) {
        return 2 * block_size * key_width * static_cast<Index>(sizeof(Number));
    }

    [[nodiscard]] Index block_size() const { return block_size_; }
    [[nodiscard]] Index num_blocks() const { return std::ssize(references_); }
    [[nodiscard]] Index num_free() const { return std::ssize(free_); }
    /// Blocks that are kept, and held by nobody.
    [[nodiscard]] Index num_only_kept() const { return num_only_kept_; }
    [[nodiscard]] bool is_held(Index block) const { return of(block).holders > 0; }
    [[nodiscard]] bool is_shared(Index block) const { return of(block).holders > 1; }
    [[nodiscard]] Index bytes_in_use() const {
        return (num_blocks() - num_free()) * block_bytes(block_size_, key_width());
    }

    /// A block with one holder. Only while num_free() > 0.
    [[nodiscard]] Index allocate() {
        check<Error>(!free_.empty(), "mor::BlockPool: no block is free");
        const Index block = free_.back();
        free_.pop_back();
        of(block).holders = 1;
        return block;
    }
    /// Another holder of a block that is held or kept.
    void hold(Index block) {
        num_only_kept_ -= is_held(block) ? 0 : 1;
        ++of(block).holders;
    }
    void release(Index block) {
        References& references = of(block);
        if (--references.holders == 0) {
            if (references.keepers > 0) {
                ++num_only_kept_;
            } else {
                free_.push_back(block);
            }
        }
    }
    /// Another keeper of a block that is held.
    void keep(Index block) { ++of(block).keepers; }
    void drop(Index block) {
        if (--of(block).keepers == 0 && !is_held(block)) {
            --num_only_kept_;
            free_.push_back(block);
        }
    }

    /// [blocks * block_size, key_width]
    [[nodiscard]] ActivationView<B> keys() { return keys_.view(); }
    [[nodiscard]] ActivationView<B> values() { return values_.view(); }
    [[nodiscard]] Index key_width() const { return keys_.extents()[1]; }

private:
    struct References {
        Index holders = 0;
        Index keepers = 0;
    };
    [[nodiscard]] References& of(Index block) {
        return references_[static_cast<std::size_t>(block)];
    }
    [[nodiscard]] const References& of(Index block) const {
        return references_[static_cast<std::size_t>(block)];
    }

    Index block_size_;
    Tensor<Number, 2, typename B::Space> keys_;
    Tensor<Number, 2, typename B::Space> values_;
    std::vector<References> references_;  // [blocks]
    std::vector<Index> free_;
    Index num_only_kept_ = 0;
};

}  // namespace mor
