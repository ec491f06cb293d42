// SPDX-License-Identifier: Apache-2.0
//
// Memory for keys and values in blocks of one size, from one pool, with reference counts.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/core/error.hpp>

#include <vector>

namespace mor {

template <Backend B>
class BlockPool {
public:
    using Element = typename B::Element;

    /// `num_blocks` blocks of `block_size` entries of key_width keys and as many values.
    BlockPool(Index num_blocks, Index block_size, Index key_width)
        : block_size_{block_size},
          keys_{{num_blocks * block_size, key_width}},
          values_{{num_blocks * block_size, key_width}},
          references_(static_cast<std::size_t>(num_blocks), 0) {
        for (Index block = num_blocks; block > 0; --block) {
            free_.push_back(block - 1);
        }
    }

    /// Bytes of the keys and values of one block.
    [[nodiscard]] static Index block_bytes(Index block_size, Index key_width) {
        return 2 * block_size * key_width * static_cast<Index>(sizeof(Element));
    }

    [[nodiscard]] Index block_size() const { return block_size_; }
    [[nodiscard]] Index num_blocks() const { return std::ssize(references_); }
    [[nodiscard]] Index num_free() const { return std::ssize(free_); }
    [[nodiscard]] Index num_references(Index block) const {
        return references_[static_cast<std::size_t>(block)];
    }
    [[nodiscard]] Index bytes_in_use() const {
        return (num_blocks() - num_free()) * block_bytes(block_size_, key_width());
    }

    /// A block with one reference. Only while num_free() > 0.
    [[nodiscard]] Index allocate() {
        check<Error>(!free_.empty(), "mor::BlockPool: no block is free");
        const Index block = free_.back();
        free_.pop_back();
        references_[static_cast<std::size_t>(block)] = 1;
        return block;
    }
    void share(Index block) { ++references_[static_cast<std::size_t>(block)]; }
    void release(Index block) {
        if (--references_[static_cast<std::size_t>(block)] == 0) {
            free_.push_back(block);
        }
    }

    /// [blocks * block_size, key_width]
    [[nodiscard]] MatrixView<B> keys() { return keys_.view(); }
    [[nodiscard]] MatrixView<B> values() { return values_.view(); }
    [[nodiscard]] Index key_width() const { return keys_.extents()[1]; }

private:
    Index block_size_;
    Tensor<Element, 2, typename B::Space> keys_;
    Tensor<Element, 2, typename B::Space> values_;
    std::vector<Index> references_;  // [blocks]
    std::vector<Index> free_;
};

}  // namespace mor
