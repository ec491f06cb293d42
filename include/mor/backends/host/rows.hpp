// SPDX-License-Identifier: Apache-2.0
//
// The ragged structure of packed rows, the same for every backend in host memory.
#pragma once

#include <mor/core/random.hpp>
#include <mor/ops/rows.hpp>

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace mor {

template <HostBackend B>
struct Kernel<op::SelectRows, B> {
    static void run(Context<B>& /*context*/, const Rows<B>& rows, ConstIndexView<B> kept,
                    IndexView<B> offsets, IndexView<B> positions) {
        for (Index i = 0; i < kept.size(); ++i) {
            positions[i] = rows.positions[kept[i]];
        }
        // kept ascends, so the rows of a sequence are those below its end and not yet counted.
        Index count = 0;
        for (Index s = 0; s < offsets.size(); ++s) {
            while (count < kept.size() && kept[count] < rows.offsets[s]) {
                ++count;
            }
            offsets[s] = count;
        }
    }
};

template <HostBackend B>
struct Kernel<op::VisibleKeys, B> {
    static void run(Context<B>& /*context*/, const Rows<B>& queries, const Rows<B>& keys,
                    IndexView<B> begin, IndexView<B> end) {
        for (Index s = 0; s < queries.num_sequences(); ++s) {
            const Index first = keys.offsets[s];
            Index last = first;
            // Positions ascend on both sides, so `last` only ever moves on.
            for (Index i = queries.offsets[s]; i < queries.offsets[s + 1]; ++i) {
                while (last < keys.offsets[s + 1] && keys.positions[last] <= queries.positions[i]) {
                    ++last;
                }
                begin[i] = first;
                end[i] = last;
            }
        }
    }
};

template <HostBackend B>
struct Kernel<op::AddPairs, B> {
    static void run(Context<B>& /*context*/, ConstIndexView<B> begin, ConstIndexView<B> end,
                    double factor, SumView<B> sum) {
        Index pairs = 0;
        for (Index i = 0; i < begin.size(); ++i) {
            pairs += end[i] - begin[i];
        }
        sum[0] += factor * static_cast<double>(pairs);
    }
};

template <HostBackend B>
struct Kernel<op::ComposeIndices, B> {
    static void run(Context<B>& /*context*/, ConstIndexView<B> outer, ConstIndexView<B> inner,
                    IndexView<B> out) {
        std::transform(inner.data(), inner.data() + inner.size(), out.data(),
                       [outer](Index i) { return outer[i]; });
    }
};

template <HostBackend B>
struct Kernel<op::NumberRows, B> {
    static void run(Context<B>& /*context*/, IndexView<B> out) {
        std::iota(out.data(), out.data() + out.size(), Index{0});
    }
};

template <HostBackend B>
struct Kernel<op::FillIndices, B> {
    static void run(Context<B>& /*context*/, Index value, IndexView<B> out) {
        std::fill_n(out.data(), out.size(), value);
    }
};

template <HostBackend B>
struct Kernel<op::UniformByPosition, B> {
    static void run(Context<B>& /*context*/, const Rows<B>& rows, Draw draw, std::uint64_t seed,
                    std::uint64_t stream, VectorView<B> out) {
        const std::uint64_t base = Random{seed, stream}.bits();
        for (Index s = 0; s < rows.num_sequences(); ++s) {
            const std::uint64_t sequence =
                draw == Draw::by_position ? 0 : static_cast<std::uint64_t>(s);
            for (Index i = rows.offsets[s]; i < rows.offsets[s + 1]; ++i) {
                Random random{base + sequence, static_cast<std::uint64_t>(rows.positions[i])};
                out[i] = static_cast<typename B::Element>(random.uniform());
            }
        }
    }
};

}  // namespace mor
