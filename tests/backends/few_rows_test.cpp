// SPDX-License-Identifier: Apache-2.0
//
// Attention of few rows is not rounded, neither forward nor backward, on systems whose products
// are: both must have the same softmax, however sharp it is.
#include "backends/backends.hpp"
#include <mor/core/random.hpp>
#include <mor/ops/attention.hpp>

#include <cstdint>
#include <vector>

using namespace backend_tests;

namespace {

constexpr mor::AttentionShape shape{2, 1, 24};
constexpr Index rows = 100;

/// Numbers of more digits than a BFloat16 has, which a float holds exactly.
std::vector<double> numbers(Index size, double deviation, std::uint64_t seed) {
    mor::Random random{seed, 0};
    std::vector<double> values(static_cast<std::size_t>(size));
    for (double& value : values) {
        value = double{static_cast<float>(deviation * random.normal())};
    }
    return values;
}

/// out, dq, dk and dv of one sequence.
template <Backend B>
std::vector<std::vector<double>> results() {
    B backend = make_backend<B>();
    Context<B> context{backend};
    using Element = typename B::Element;
    const auto matrix = [&](Index columns, double deviation, std::uint64_t seed) {
        const mor::MatrixView<B> x = context.matrix(rows, columns);
        const std::vector<double> values = numbers(x.size(), deviation, seed);
        mor::from_host(x.flat(), std::vector<Element>(values.begin(), values.end()));
        return x;
    };
    const Index q_columns = shape.heads * shape.head_dim;
    const Index k_columns = shape.kv_heads * shape.head_dim;
    const auto q = matrix(q_columns, 8, 1);
    const auto k = matrix(k_columns, 1, 2);
    const auto v = matrix(k_columns, 1, 3);
    const auto dout = matrix(q_columns, 1, 4);
    const mor::IndexView<B> begin = context.indices(rows);
    const mor::IndexView<B> end = context.indices(rows);
    std::vector<Index> ends(static_cast<std::size_t>(rows));
    for (std::size_t i = 0; i < ends.size(); ++i) {
        ends[i] = static_cast<Index>(i) + 1;
    }
    mor::from_host(begin, std::vector<Index>(ends.size(), 0));
    mor::from_host(end, ends);
    const mor::KeyRanges<B> ranges{begin, end, rows * (rows + 1) / 2};
    const mor::MatrixView<B> out = context.matrix(rows, q_columns);
    const mor::MatrixView<B> logsumexp = context.matrix(rows, shape.heads);
    ops::attention<B>(context, shape, q, k, v, ranges, out, logsumexp);
    const mor::MatrixView<B> dq = context.matrix(rows, q_columns);
    const mor::MatrixView<B> dk = context.zero_matrix(rows, k_columns);
    const mor::MatrixView<B> dv = context.zero_matrix(rows, k_columns);
    ops::attention_backward<B>(context, shape, q, k, v, ranges, out, logsumexp, dout, dq, dk, dv);
    std::vector<std::vector<double>> all;
    for (const auto& x : {out, dq, dk, dv}) {
        const auto values = mor::to_host(x);
        all.emplace_back(values.begin(), values.end());
    }
    return all;
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("attention of few rows is not rounded", B, few_rows) {
    const auto actual = results<B>();
    const auto expected = results<Oracle>();
    for (std::size_t i = 0; i < actual.size(); ++i) {
        const View<const double, 1> found{actual[i].data(), {std::ssize(actual[i])}};
        const View<const double, 1> right{expected[i].data(), {std::ssize(expected[i])}};
        // Scores are sums of 24 terms of up to 30, then exponents: an error of them is one of p.
        CHECK(mor::testing::mismatch(found, right, 1e-4) == "");
    }
}
TEST_CASE_TEMPLATE_APPLY(few_rows, BackendsUnderTest);
