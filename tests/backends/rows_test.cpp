// SPDX-License-Identifier: Apache-2.0
//
// Integers only: there is no oracle, the expected results are written out or counted naively.
#include "backends/backends.hpp"
#include <mor/ops/rows.hpp>

#include <algorithm>
#include <cstdint>
#include <numeric>

using namespace backend_tests;

namespace {

template <class B>
using IndexTensor = Tensor<Index, 1, typename B::Space>;

template <class B>
IndexTensor<B> tensor(const std::vector<Index>& values) {
    IndexTensor<B> result{{static_cast<Index>(values.size())}};
    mor::from_host(result.view(), values);
    return result;
}

// Rows with their memory.
template <class B>
struct OwnedRows {
    IndexTensor<B> offsets;
    IndexTensor<B> positions;

    OwnedRows(const std::vector<Index>& offsets_of, const std::vector<Index>& positions_of)
        : offsets{tensor<B>(offsets_of)}, positions{tensor<B>(positions_of)} {}

    [[nodiscard]] mor::Rows<B> view() const { return {offsets.view(), positions.view()}; }
};

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("select_rows keeps sequences and original positions", B, select_rows) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    const OwnedRows<B> rows{{0, 4, 4, 5, 8}, {0, 1, 2, 7, 0, 3, 4, 5}};
    CHECK(rows.view().size() == 8);
    CHECK(rows.view().num_sequences() == 4);

    // In the second call the first sequence loses all its rows.
    struct Case {
        std::vector<Index> kept;
        const char* offsets;
        const char* positions;
    };
    for (const auto& [kept, offsets, positions] :
         {Case{{0, 1, 2, 3, 4, 5, 6, 7}, "0 4 4 5 8", "0 1 2 7 0 3 4 5"},
          Case{{4, 7}, "0 0 0 1 2", "0 5"}, Case{{1, 3, 5}, "0 2 2 2 3", "1 7 3"},
          Case{{}, "0 0 0 0 0", ""}}) {
        const mor::Rows<B> selected =
            ops::select_rows<B>(context, rows.view(), tensor<B>(kept).view());
        CHECK(text(mor::to_host(selected.offsets)) == offsets);
        CHECK(text(mor::to_host(selected.positions)) == positions);
    }
}
TEST_CASE_TEMPLATE_APPLY(select_rows, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("select_rows of no sequences is no sequences", B, select_rows_empty) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    const OwnedRows<B> rows{{0}, {}};
    const mor::Rows<B> selected = ops::select_rows<B>(context, rows.view(), {});
    CHECK(text(mor::to_host(selected.offsets)) == "0");
    CHECK(selected.num_sequences() == 0);
    CHECK(ops::count_pairs(context, ops::visible_keys(context, selected, selected)) == 0);
}
TEST_CASE_TEMPLATE_APPLY(select_rows_empty, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("visible_keys are those of the sequence at no later position", B,
                          visible_keys) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    // The second sequence has keys but asks nothing; keys have gaps, as after routing.
    const OwnedRows<B> keys{{0, 4, 6, 9}, {0, 2, 3, 9, 0, 1, 5, 6, 8}};
    const OwnedRows<B> queries{{0, 3, 3, 5}, {1, 3, 20, 6, 7}};
    const mor::KeyRanges<B> ranges = ops::visible_keys(context, queries.view(), keys.view());
    CHECK(text(mor::to_host(ranges.begin)) == "0 0 0 6 6");
    CHECK(text(mor::to_host(ranges.end)) == "1 3 4 8 8");
    CHECK(ops::count_pairs(context, ranges) == 1 + 3 + 4 + 2 + 2);
}
TEST_CASE_TEMPLATE_APPLY(visible_keys, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("visible_keys agree with a naive count on random subsets", B,
                          visible_keys_random) {
    mor::Random random{3};
    for (int round = 0; round < 20; ++round) {
        std::vector<Index> offsets{0};
        std::vector<Index> positions;
        std::vector<Index> sequence_of;
        for (Index s = 0; s < 6; ++s) {
            for (Index i = random.below(40); i > 0; --i) {
                positions.push_back(static_cast<Index>(positions.size()) - offsets.back());
                sequence_of.push_back(s);
            }
            offsets.push_back(static_cast<Index>(positions.size()));
        }
        std::vector<Index> kept;
        for (std::size_t i = 0; i < positions.size(); ++i) {
            if (random.below(3) == 0) {
                kept.push_back(static_cast<Index>(i));
            }
        }
        B backend = make_backend<B>();
        Context<B> context{backend};
        const OwnedRows<B> rows{offsets, positions};
        const mor::Rows<B> queries =
            ops::select_rows<B>(context, rows.view(), tensor<B>(kept).view());
        const mor::KeyRanges<B> ranges = ops::visible_keys(context, queries, rows.view());
        const auto begin = mor::to_host(ranges.begin);
        const auto end = mor::to_host(ranges.end);
        Index pairs = 0;
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < kept.size(); ++i) {
            for (Index j = 0; j < rows.view().size(); ++j) {
                const auto query = static_cast<std::size_t>(kept[i]);
                const auto key = static_cast<std::size_t>(j);
                const bool visible =
                    sequence_of[key] == sequence_of[query] && positions[key] <= positions[query];
                wrong += visible != (begin[i] <= j && j < end[i]) ? 1U : 0U;
                pairs += visible ? 1 : 0;
            }
        }
        CHECK(wrong == 0);
        CHECK(ops::count_pairs(context, ranges) == pairs);
    }
}
TEST_CASE_TEMPLATE_APPLY(visible_keys_random, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("compose_indices looks the inner indices up in the outer ones", B,
                          compose_indices) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    const auto outer = tensor<B>({3, 5, 8, 13});
    const auto inner = tensor<B>({0, 2, 3});
    auto out = tensor<B>({-1, -1, -1});
    ops::compose_indices<B>(context, outer.view(), inner.view(), out.view());
    CHECK(text(mor::to_host(out.view())) == "3 8 13");
    ops::compose_indices<B>(context, outer.view(), {}, {});
}
TEST_CASE_TEMPLATE_APPLY(compose_indices, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("number_rows counts from zero", B, number_rows) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    auto out = tensor<B>({-1, -1, -1});
    ops::number_rows<B>(context, out.view());
    CHECK(text(mor::to_host(out.view())) == "0 1 2");
    ops::number_rows<B>(context, {});
}
TEST_CASE_TEMPLATE_APPLY(number_rows, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("fill_indices sets every element", B, fill_indices) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    auto out = tensor<B>({-1, -1, -1});
    ops::fill_indices<B>(context, 5, out.view());
    CHECK(text(mor::to_host(out.view())) == "5 5 5");
}
TEST_CASE_TEMPLATE_APPLY(fill_indices, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("uniform_by_position depends on nothing but what it says", B, uniform) {
    using mor::Draw;
    const auto draw = [](const OwnedRows<B>& rows, Draw kind, std::uint64_t stream) {
        B backend = make_backend<B>();
        Context<B> context{backend};
        const auto out = context.vector(rows.view().size());
        ops::uniform_by_position<B>(context, rows.view(), kind, 7, stream, out);
        return mor::to_host(out);
    };
    const OwnedRows<B> two{{0, 3, 5}, {0, 1, 2, 0, 2}};
    const auto same = draw(two, Draw::by_position, 1);
    CHECK(same[0] == same[3]);
    CHECK(same[2] == same[4]);
    CHECK(same[0] != same[1]);
    const auto apart = draw(two, Draw::by_sequence_and_position, 1);
    CHECK(apart[0] != apart[3]);
    CHECK(apart[2] != apart[4]);
    CHECK(draw(two, Draw::by_position, 2)[0] != same[0]);
    // Row 2 of a shorter batch is row 1 of this one.
    const OwnedRows<B> later{{0, 1}, {2}};
    CHECK(draw(later, Draw::by_position, 1)[0] == same[2]);

    std::vector<Index> positions(4'000);
    std::iota(positions.begin(), positions.end(), Index{0});
    const OwnedRows<B> many{{0, 4'000}, positions};
    const auto values = draw(many, Draw::by_position, 3);
    CHECK(std::all_of(values.begin(), values.end(), [](auto u) { return u >= 0 && u < 1; }));
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / 4'000;
    CHECK(mean == doctest::Approx(0.5).epsilon(0.03));
}
TEST_CASE_TEMPLATE_APPLY(uniform, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("rows name the argument that does not fit", B, rows_shapes) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    const OwnedRows<B> two{{0, 1, 2}, {0, 0}};
    const OwnedRows<B> one{{0, 2}, {0, 1}};
    CHECK_THROWS_WITH_AS((void)ops::visible_keys(context, two.view(), one.view()),
                         "mor::ops::visible_keys: keys.offsets is [2], expected [3]",
                         mor::ShapeError);
    auto out = tensor<B>({0, 0});
    CHECK_THROWS_WITH_AS(
        ops::compose_indices<B>(context, out.view(), one.offsets.view(), out.view().slice(0, 1)),
        "mor::ops::compose_indices: out is [1], expected [2]", mor::ShapeError);
}
TEST_CASE_TEMPLATE_APPLY(rows_shapes, BackendsUnderTest);
