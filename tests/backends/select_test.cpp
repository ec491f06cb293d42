// SPDX-License-Identifier: Apache-2.0
//
// What a selection keeps is compared exactly.
#include "backends/backends.hpp"
#include <mor/ops/select.hpp>

#include <limits>

using namespace backend_tests;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

template <class B>
std::string top_k(const std::vector<double>& scores, const std::vector<Index>& offsets,
                  const std::vector<Index>& k) {
    Bench<B> bench;
    auto s = bench.vector_of(scores);
    auto o = bench.integers(offsets);
    auto counts = bench.integers(k);
    auto kept = bench.integers(std::vector<Index>(scores.size(), -1));
    const Index count = ops::top_k<B>(bench.context(), s.tested.view(), o.tested.view(),
                                      counts.tested.view(), kept.tested.view());
    return text(mor::to_host(kept.tested.view().slice(0, count)));
}

template <class B>
std::string capacity_counts(const std::vector<Index>& offsets, double capacity) {
    Bench<B> bench;
    auto o = bench.integers(offsets);
    auto counts = bench.integers(std::vector<Index>(offsets.size() - 1, -1));
    ops::capacity_counts<B>(bench.context(), o.tested.view(), capacity, counts.tested.view());
    return text(mor::to_host(counts.tested.view()));
}

template <class B>
std::string select_greater(const std::vector<double>& scores, double bound) {
    Bench<B> bench;
    auto s = bench.vector_of(scores);
    auto kept = bench.integers(std::vector<Index>(scores.size(), -1));
    const Index count =
        ops::select_greater<B>(bench.context(), s.tested.view(), bound, kept.tested.view());
    return text(mor::to_host(kept.tested.view().slice(0, count)));
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("top_k keeps the largest of each sequence, ascending", B, top_k_basic) {
    CHECK(top_k<B>({5, 1, 4, 2, 3}, {0, 5}, {1}) == "0");
    CHECK(top_k<B>({5, 1, 4, 2, 3}, {0, 5}, {3}) == "0 2 4");
    CHECK(top_k<B>({-5, -1, -4, -2, -3}, {0, 5}, {2}) == "1 3");
    // Of three sequences; the second is empty.
    CHECK(top_k<B>({5, 1, 4, 2, 3}, {0, 2, 2, 5}, {1, 1, 2}) == "0 2 4");
    CHECK(top_k<B>({}, {0}, {}).empty());
    CHECK(top_k<B>({}, {0, 0}, {3}).empty());
}
TEST_CASE_TEMPLATE_APPLY(top_k_basic, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("count_values adds to the counts", B, counts_values) {
    Bench<B> bench;
    auto values = bench.integers({2, 0, 2, 2});
    auto counts = bench.integers({0, 5, 1});
    ops::count_values<B>(bench.context(), values.tested.view(), counts.tested.view());
    CHECK(text(mor::to_host(counts.tested.view())) == "1 5 4");
}
TEST_CASE_TEMPLATE_APPLY(counts_values, BackendsUnderTest);

// 24, 17 and 2048 rows at 2/3: the numbers of the authors' code.
TEST_CASE_TEMPLATE_DEFINE("capacity_counts rounds down, but never below one", B, counts_rows) {
    CHECK(capacity_counts<B>({0, 24, 41, 2089}, 2.0 / 3.0) == "16 11 1365");
    CHECK(capacity_counts<B>({0, 24, 41, 2089}, 1.0) == "24 17 2048");
    CHECK(capacity_counts<B>({0, 1, 1, 3}, 0.25) == "1 1 1");
    CHECK(capacity_counts<B>({0}, 0.5).empty());
    Bench<B> bench;
    auto offsets = bench.integers({0, 1});
    CHECK_THROWS_WITH_AS(
        ops::capacity_counts<B>(bench.context(), offsets.tested.view(), 0.5, offsets.tested.view()),
        "mor::ops::capacity_counts: offsets is [2], expected [3]", mor::ShapeError);
}
TEST_CASE_TEMPLATE_APPLY(counts_rows, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("top_k keeps everything if k is larger, nothing if it is zero", B,
                          top_k_bounds) {
    CHECK(top_k<B>({5, 1, 4}, {0, 3}, {3}) == "0 1 2");
    CHECK(top_k<B>({5, 1, 4}, {0, 3}, {100}) == "0 1 2");
    CHECK(top_k<B>({5, 1, 4}, {0, 3}, {0}).empty());
    CHECK(top_k<B>({5, 1, 4, 7}, {0, 2, 4}, {0, 5}) == "2 3");
    CHECK(top_k<B>({not_a_number, not_a_number}, {0, 2}, {2}) == "0 1");
}
TEST_CASE_TEMPLATE_APPLY(top_k_bounds, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("top_k gives ties to the lower row", B, top_k_ties) {
    CHECK(top_k<B>({1, 1, 1, 1}, {0, 4}, {2}) == "0 1");
    CHECK(top_k<B>({1, 2, 1, 2, 1}, {0, 5}, {3}) == "0 1 3");
    CHECK(top_k<B>({0.0, -0.0, 0.0}, {0, 3}, {2}) == "0 1");
    CHECK(top_k<B>({3, 3, 3, 9, 3, 3}, {0, 3, 6}, {1, 2}) == "0 3 4");
}
TEST_CASE_TEMPLATE_APPLY(top_k_ties, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("top_k takes NaN for the lowest score", B, top_k_nan) {
    CHECK(top_k<B>({not_a_number, 1, not_a_number, -1e30}, {0, 4}, {2}) == "1 3");
    CHECK(top_k<B>({not_a_number, 1, not_a_number, -1e30}, {0, 4}, {3}) == "0 1 3");
    CHECK(top_k<B>({not_a_number, infinity, -infinity, 0}, {0, 4}, {2}) == "1 3");
    CHECK(top_k<B>({not_a_number, not_a_number, not_a_number}, {0, 3}, {1}) == "0");
}
TEST_CASE_TEMPLATE_APPLY(top_k_nan, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("top_k agrees with the oracle on random scores with many ties", B,
                          top_k_random) {
    mor::Random random{11};
    for (int round = 0; round < 50; ++round) {
        std::vector<Index> offsets{0};
        std::vector<Index> k;
        for (int s = 0; s < 4; ++s) {
            const Index length = random.below(300);
            offsets.push_back(offsets.back() + length);
            k.push_back(random.below(length + 20));
        }
        std::vector<double> scores(static_cast<std::size_t>(offsets.back()));
        for (double& score : scores) {
            const Index value = random.below(40);
            score = value == 0 ? not_a_number : static_cast<double>(value) / 8;
        }
        CHECK(top_k<B>(scores, offsets, k) == top_k<Oracle>(scores, offsets, k));
    }
}
TEST_CASE_TEMPLATE_APPLY(top_k_random, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("top_k takes rows of sequences only", B, top_k_outside) {
    CHECK(top_k<B>({9, 9, 1, 2, 3, 9}, {2, 5}, {2}) == "3 4");
    CHECK(top_k<B>({9, 9, 1, 2, 3, 9}, {2, 5}, {3}) == "2 3 4");
    CHECK(top_k<B>({9, 1, 2, 9}, {1, 1, 3, 3}, {7, 1, 7}) == "2");
    CHECK(top_k<B>({9, 9}, {1, 1}, {1}).empty());
}
TEST_CASE_TEMPLATE_APPLY(top_k_outside, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("top_k tells all numbers apart that are not equal", B, top_k_numbers) {
    using T = typename B::Element;
    const double largest = double{std::numeric_limits<T>::max()};
    const double least = double{std::numeric_limits<T>::denorm_min()};
    const double above_one = 1 + double{std::numeric_limits<T>::epsilon()};
    // Descending, but for what is equal.
    const std::vector<double> scores{infinity, largest,   above_one,    1,        least,
                                     -0.0,     0.0,       -least,       -1,       -above_one,
                                     -largest, -infinity, not_a_number, -infinity};
    const auto rows = static_cast<Index>(scores.size());
    for (Index k = 0; k <= rows; ++k) {
        std::vector<Index> first;
        for (Index i = 0; i < k; ++i) {
            first.push_back(i);
        }
        CHECK(top_k<B>(scores, {0, rows}, {k}) == text(first));
        // In the other order ties are those of other rows.
        const std::vector<double> ascending(scores.rbegin(), scores.rend());
        CHECK(top_k<B>(ascending, {0, rows}, {k}) == top_k<Oracle>(ascending, {0, rows}, {k}));
    }
}
TEST_CASE_TEMPLATE_APPLY(top_k_numbers, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("top_k agrees with the oracle on sequences of any length", B,
                          top_k_lengths) {
    mor::Random random{12};
    // Around the sizes of teams and their multiples.
    const std::vector<Index> lengths{1,   2,   5,   6,   7,   11,  12,    13,    31,    32,   33,
                                     255, 256, 257, 511, 512, 513, 1'000, 2'048, 3'001, 5'000};
    // How many values there are: many ties, some, and hardly any.
    for (const Index num_values : {Index{1}, Index{2}, Index{50}, Index{1} << 20}) {
        for (const Index length : lengths) {
            CAPTURE(num_values);
            CAPTURE(length);
            std::vector<double> scores;
            for (const Index value : mor::testing::uniform_integers(
                     random, 2 * length, -num_values / 2, num_values - num_values / 2)) {
                scores.push_back(static_cast<double>(value) / 64);
            }
            scores[static_cast<std::size_t>(random.below(2 * length))] = not_a_number;
            scores[static_cast<std::size_t>(random.below(2 * length))] = infinity;
            scores[static_cast<std::size_t>(random.below(2 * length))] = -infinity;
            const std::vector<Index> offsets{0, length, 2 * length};
            for (const Index k : {Index{1}, length / 3, length - 1, length + 1}) {
                CHECK(top_k<B>(scores, offsets, {k, length - k}) ==
                      top_k<Oracle>(scores, offsets, {k, length - k}));
            }
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(top_k_lengths, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("top_k agrees with the oracle on many sequences", B, top_k_many) {
    mor::Random random{13};
    std::vector<Index> offsets{0};
    std::vector<Index> k;
    for (int s = 0; s < 700; ++s) {
        const Index length = random.below(6);
        offsets.push_back(offsets.back() + length);
        k.push_back(random.below(length + 2));
    }
    const std::vector<double> scores = mor::testing::normal_values(random, offsets.back());
    CHECK(top_k<B>(scores, offsets, k) == top_k<Oracle>(scores, offsets, k));
}
TEST_CASE_TEMPLATE_APPLY(top_k_many, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("select_greater keeps what exceeds the bound, and not NaN", B,
                          select_greater_basic) {
    CHECK(select_greater<B>({5, 1, 4, 2, 3}, 2) == "0 2 4");
    CHECK(select_greater<B>({5, 1, 4, 2, 3}, 5).empty());
    CHECK(select_greater<B>({5, 1, 4, 2, 3}, -infinity) == "0 1 2 3 4");
    CHECK(select_greater<B>({not_a_number, 1, not_a_number, 2}, 0) == "1 3");
    CHECK(select_greater<B>({0.0, -0.0, 1}, 0) == "2");
    CHECK(select_greater<B>({}, 0).empty());
}
TEST_CASE_TEMPLATE_APPLY(select_greater_basic, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("select_greater does not round the bound to the element type", B,
                          select_greater_rounding) {
    const double third = double{1.0F / 3.0F};  // above 1/3
    CHECK(select_greater<B>({third, third}, 1.0 / 3.0) == "0 1");
    CHECK(select_greater<B>({third, third}, third).empty());
}
TEST_CASE_TEMPLATE_APPLY(select_greater_rounding, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("select_at_least looks the depth of each row up", B, select_at_least) {
    Bench<B> bench;
    auto depth = bench.integers({0, 3, 1, 2, 3});
    auto rows = bench.integers({4, 0, 2, 1});
    auto kept = bench.integers({-1, -1, -1, -1});
    const auto select = [&](Index bound) {
        const Index count = ops::select_at_least<B>(bench.context(), depth.tested.view(),
                                                    rows.tested.view(), bound, kept.tested.view());
        return text(mor::to_host(kept.tested.view().slice(0, count)));
    };
    CHECK(select(0) == "0 1 2 3");
    CHECK(select(1) == "0 2 3");
    CHECK(select(3) == "0 3");
    CHECK(select(4).empty());
    CHECK(ops::select_at_least<B>(bench.context(), depth.tested.view(), {}, 0, {}) == 0);
}
TEST_CASE_TEMPLATE_APPLY(select_at_least, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("selections name the argument that does not fit", B, select_shapes) {
    Bench<B> bench;
    auto scores = bench.vector(7);
    auto six = bench.integers({0, 0, 0, 0, 0, 0});
    auto two = bench.integers({0, 7});
    const auto s = scores.tested.view();
    const auto k = six.tested.view();
    const auto offsets = two.tested.view();
    CHECK_THROWS_WITH_AS((void)ops::top_k<B>(bench.context(), s, offsets, k, k),
                         "mor::ops::top_k: offsets is [2], expected [7]", mor::ShapeError);
    CHECK_THROWS_WITH_AS((void)ops::top_k<B>(bench.context(), s, offsets, k.slice(0, 1), k),
                         "mor::ops::top_k: kept is [6], expected [7]", mor::ShapeError);
    CHECK_THROWS_WITH_AS((void)ops::select_greater<B>(bench.context(), s, 0, k),
                         "mor::ops::select_greater: kept is [6], expected [7]", mor::ShapeError);
    CHECK_THROWS_WITH_AS((void)ops::select_at_least<B>(bench.context(), k, offsets, 0, k),
                         "mor::ops::select_at_least: kept is [6], expected [2]", mor::ShapeError);
}
TEST_CASE_TEMPLATE_APPLY(select_shapes, BackendsUnderTest);
