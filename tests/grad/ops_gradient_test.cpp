// SPDX-License-Identifier: Apache-2.0
#include "grad/gradients.hpp"

#include <utility>

using namespace gradient_tests;

TEST_CASE("gradient_check finds what is right, wrong, and not a number") {
    const Numbers x = {0.5, -2, 300};
    const auto function = [](const Numbers& p) { return std::sin(p[0]) * p[1] + p[1] * p[2]; };
    const Numbers right = {std::cos(0.5) * -2, std::sin(0.5) + 300, -2};
    const GradientCheck check = check_gradient(function, x, right);
    CHECK(check.passes());
    CHECK(check.relative_error < 1e-10);

    Numbers wrong = right;
    wrong[2] = -3;
    const GradientCheck failure = check_gradient(function, x, wrong);
    CHECK(!failure.passes());
    CHECK(failure.worst == 2);
    CHECK(failure.analytic == -3);
    CHECK(failure.numeric == doctest::Approx(-2));
    CHECK(failure.message().find("largest difference at 2: analytic -3") != std::string::npos);

    wrong[0] = std::nan("");
    CHECK(!check_gradient(function, x, wrong).passes());
    CHECK(check_gradient(function, x, wrong).worst == 0);
    CHECK(!check_gradient([](const Numbers&) { return std::nan(""); }, x, right).passes());
    CHECK(check_gradient([](const Numbers&) { return 3.0; }, x, {0, 0, 0}).passes());
    CHECK_THROWS_WITH_AS((void)check_gradient(function, x, {1, 2}),
                         "mor::testing::check_gradient: analytic has 2 elements, expected 3",
                         mor::ShapeError);
}

TEST_CASE_TEMPLATE_DEFINE("gradient of linear", B, linear) {
    Bench<B> bench;
    const Index rows = 5, in = 7, out = 3;
    const Numbers x = bench.normal(rows * in);
    const Numbers w = bench.normal(out * in);
    const Numbers dy = bench.normal(rows * out);
    const auto f = [&](const Numbers& xs, const Numbers& ws) {
        Numbers y = zeros(rows * out);
        ops::linear<B>(bench.context, matrix(xs, rows, in), matrix(ws, out, in),
                       matrix(y, rows, out));
        return dot(y, dy);
    };
    Numbers dx = zeros(rows * in);
    Numbers dw = zeros(out * in);
    ops::linear_backward_input<B>(bench.context, matrix(dy, rows, out), matrix(w, out, in),
                                  matrix(dx, rows, in));
    ops::linear_backward_weight<B>(bench.context, matrix(dy, rows, out), matrix(x, rows, in),
                                   matrix(dw, out, in));
    expect_gradient([&](const Numbers& p) { return f(p, w); }, x, dx);
    expect_gradient([&](const Numbers& p) { return f(x, p); }, w, dw);
}
TEST_CASE_TEMPLATE_APPLY(linear, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gradient of embedding, with repeated tokens", B, embedding) {
    Bench<B> bench;
    const std::vector<TokenId> tokens = {3, 0, 3, 1, 3};
    const Numbers table = bench.normal(4 * 6);
    const Numbers dout = bench.normal(5 * 6);
    Numbers dtable = zeros(4 * 6);
    ops::embedding_backward<B>(bench.context, vector(tokens), matrix(dout, 5, 6),
                               matrix(dtable, 4, 6));
    const auto f = [&](const Numbers& p) {
        Numbers out = zeros(5 * 6);
        ops::embedding<B>(bench.context, vector(tokens), matrix(p, 4, 6), matrix(out, 5, 6));
        return dot(out, dout);
    };
    expect_gradient(f, table, dtable);
}
TEST_CASE_TEMPLATE_APPLY(embedding, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gradient of rms_norm", B, rms_norm) {
    Bench<B> bench;
    const Index rows = 4, hidden = 9;
    const Numbers x = bench.normal(rows * hidden);
    const Numbers w = bench.normal(hidden);
    const Numbers dy = bench.normal(rows * hidden);
    Numbers inverse_rms = zeros(rows);
    const auto f = [&](const Numbers& xs, const Numbers& ws) {
        Numbers y = zeros(rows * hidden);
        ops::rms_norm<B>(bench.context, matrix(xs, rows, hidden), vector(ws), 1e-3,
                         matrix(y, rows, hidden), vector(inverse_rms));
        return dot(y, dy);
    };
    (void)f(x, w);
    Numbers dx = zeros(rows * hidden);
    Numbers dw = zeros(hidden);
    ops::rms_norm_backward<B>(bench.context, matrix(dy, rows, hidden), matrix(x, rows, hidden),
                              vector(w), vector(inverse_rms), matrix(dx, rows, hidden), vector(dw));
    expect_gradient([&](const Numbers& p) { return f(p, w); }, x, dx);
    expect_gradient([&](const Numbers& p) { return f(x, p); }, w, dw);
}
TEST_CASE_TEMPLATE_APPLY(rms_norm, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gradient of rope is the inverse rotation", B, rope) {
    Bench<B> bench;
    const Index rows = 3, half = 4, width = 2 * 2 * half, num_positions = 10;
    const std::vector<Index> positions = {0, 7, 3};
    Numbers cosine = zeros(num_positions * half);
    Numbers sine = zeros(num_positions * half);
    for (Index i = 0; i < num_positions * half; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const double angle = static_cast<double>(i / half) * std::pow(10.0, -(i % half));
        cosine[at] = std::cos(angle);
        sine[at] = std::sin(angle);
    }
    const auto rotate = [&](Numbers x, mor::Rotation rotation) {
        ops::rope<B>(
            bench.context, vector(positions), matrix(std::as_const(cosine), num_positions, half),
            matrix(std::as_const(sine), num_positions, half), matrix(x, rows, width), rotation);
        return x;
    };
    const Numbers x = bench.normal(rows * width);
    const Numbers dout = bench.normal(rows * width);
    expect_gradient([&](const Numbers& p) { return dot(rotate(p, mor::Rotation::forward), dout); },
                    x, rotate(dout, mor::Rotation::backward));
}
TEST_CASE_TEMPLATE_APPLY(rope, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gradient of swiglu", B, swiglu) {
    Bench<B> bench;
    const Numbers gate = bench.normal(4 * 5);
    const Numbers up = bench.normal(4 * 5);
    const Numbers dy = bench.normal(4 * 5);
    Numbers dgate = zeros(4 * 5);
    Numbers dup = zeros(4 * 5);
    const auto f = [&](const Numbers& gates, const Numbers& ups) {
        Numbers y = zeros(4 * 5);
        ops::swiglu<B>(bench.context, matrix(gates, 4, 5), matrix(ups, 4, 5), matrix(y, 4, 5));
        return dot(y, dy);
    };
    ops::swiglu_backward<B>(bench.context, matrix(gate, 4, 5), matrix(up, 4, 5), matrix(dy, 4, 5),
                            matrix(dgate, 4, 5), matrix(dup, 4, 5));
    expect_gradient([&](const Numbers& p) { return f(p, up); }, gate, dgate);
    expect_gradient([&](const Numbers& p) { return f(gate, p); }, up, dup);
}
TEST_CASE_TEMPLATE_APPLY(swiglu, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gradient of cross_entropy, with ignored rows", B, cross_entropy) {
    Bench<B> bench;
    const std::vector<TokenId> targets = {2, -1, 0, 6, -100};
    const Numbers logits = bench.normal(5 * 7);
    Numbers dlogits = bench.normal(5 * 7);
    const auto loss = [&](const Numbers& p, View<double, 2> gradient) {
        return sum_of([&](auto sum) {
            ops::cross_entropy<B>(bench.context, matrix(p, 5, 7), vector(targets), 0.3, gradient,
                                  0.3, sum);
        });
    };
    (void)loss(logits, matrix(dlogits, 5, 7));
    expect_gradient([&](const Numbers& p) { return loss(p, {}); }, logits, dlogits);
}
TEST_CASE_TEMPLATE_APPLY(cross_entropy, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gradient of attention: ragged, grouped heads, fewer queries than keys",
                          B, attention) {
    struct Batch {
        std::vector<Index> offsets, positions, kept;
    };
    const Batch batches[] = {
        {{0, 6, 6, 7, 11}, {0, 1, 2, 3, 4, 5, 0, 0, 1, 2, 3}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
        {{0, 6, 6, 7, 11}, {0, 1, 2, 3, 4, 5, 0, 0, 1, 2, 3}, {1, 4, 6, 10}},
    };
    const mor::AttentionShape shapes[] = {{1, 1, 3}, {4, 2, 2}, {3, 3, 2}, {9, 3, 1}};
    for (const Batch& batch : batches) {
        for (const mor::AttentionShape& shape : shapes) {
            CAPTURE(batch.kept.size());
            CAPTURE(shape.heads);
            CAPTURE(shape.kv_heads);
            Bench<B> bench;
            const auto num_keys = static_cast<Index>(batch.positions.size());
            const auto num_queries = static_cast<Index>(batch.kept.size());
            const Index width = shape.heads * shape.head_dim;
            const Index kv_width = shape.kv_heads * shape.head_dim;
            const mor::Rows<B> keys{vector(batch.offsets), vector(batch.positions)};
            const mor::Rows<B> queries =
                ops::select_rows<B>(bench.context, keys, vector(batch.kept));
            const mor::KeyRanges<B> ranges = ops::visible_keys(bench.context, queries, keys);

            const Numbers q = bench.normal(num_queries * width);
            const Numbers k = bench.normal(num_keys * kv_width);
            const Numbers v = bench.normal(num_keys * kv_width);
            const Numbers dout = bench.normal(num_queries * width);
            Numbers out = zeros(num_queries * width);
            Numbers lse = zeros(num_queries * shape.heads);
            const auto f = [&](const Numbers& qs, const Numbers& ks, const Numbers& vs) {
                ops::attention<B>(bench.context, shape, matrix(qs, num_queries, width),
                                  matrix(ks, num_keys, kv_width), matrix(vs, num_keys, kv_width),
                                  ranges, matrix(out, num_queries, width),
                                  matrix(lse, num_queries, shape.heads));
                return dot(out, dout);
            };
            (void)f(q, k, v);
            Numbers dq = bench.normal(num_queries * width);  // overwritten
            Numbers dk = zeros(num_keys * kv_width);
            Numbers dv = zeros(num_keys * kv_width);
            ops::attention_backward<B>(
                bench.context, shape, matrix(q, num_queries, width), matrix(k, num_keys, kv_width),
                matrix(v, num_keys, kv_width), ranges, matrix(out, num_queries, width),
                matrix(lse, num_queries, shape.heads), matrix(dout, num_queries, width),
                matrix(dq, num_queries, width), matrix(dk, num_keys, kv_width),
                matrix(dv, num_keys, kv_width));
            expect_gradient([&](const Numbers& p) { return f(p, k, v); }, q, dq);
            expect_gradient([&](const Numbers& p) { return f(q, p, v); }, k, dk);
            expect_gradient([&](const Numbers& p) { return f(q, k, p); }, v, dv);
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(attention, BackendsUnderTest);
