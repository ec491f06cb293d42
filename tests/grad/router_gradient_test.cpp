// SPDX-License-Identifier: Apache-2.0
#include "grad/gradients.hpp"

using namespace gradient_tests;

TEST_CASE_TEMPLATE_DEFINE("gradient of the gates and of pick_column", B, gates) {
    const Index rows = 6, depths = 3;
    for (const mor::GateFunction function : enum_values(mor::GateFunction{})) {
        CAPTURE(to_string(function));
        Bench<B> bench;
        const Numbers logits = bench.normal(rows * depths);
        const Numbers dpicked = bench.normal(rows);
        const std::vector<Index> column = {2, 0, 1, 1, 2, 0};
        Numbers gate = zeros(rows * depths);
        const auto f = [&](const Numbers& p) {
            ops::gate<B>(bench.context, function, matrix(p, rows, depths), 0.7,
                         matrix(gate, rows, depths));
            Numbers picked = zeros(rows);
            ops::pick_column<B>(bench.context, matrix(gate, rows, depths), vector(column),
                                vector(picked));
            return dot(picked, dpicked);
        };
        (void)f(logits);
        Numbers dgate = zeros(rows * depths);
        Numbers dlogits = zeros(rows * depths);
        ops::pick_column_backward<B>(bench.context, vector(dpicked), vector(column),
                                     matrix(dgate, rows, depths));
        ops::gate_backward<B>(bench.context, function, matrix(gate, rows, depths), 0.7,
                              matrix(dgate, rows, depths), matrix(dlogits, rows, depths));
        expect_gradient(f, logits, dlogits);
    }
}
TEST_CASE_TEMPLATE_APPLY(gates, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gradient of gelu", B, gelu) {
    Bench<B> bench;
    const Index rows = 5, width = 4;
    const Numbers x = bench.normal(rows * width);
    const Numbers dy = bench.normal(rows * width);
    const auto f = [&](const Numbers& p) {
        Numbers y = zeros(rows * width);
        ops::gelu<B>(bench.context, matrix(p, rows, width), matrix(y, rows, width));
        return dot(y, dy);
    };
    Numbers dx = zeros(rows * width);
    ops::gelu_backward<B>(bench.context, matrix(x, rows, width), matrix(dy, rows, width),
                          matrix(dx, rows, width));
    expect_gradient(f, x, dx);
}
TEST_CASE_TEMPLATE_APPLY(gelu, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gradient of selection_loss", B, selection_loss) {
    Bench<B> bench;
    const std::vector<Index> kept = {0, 2, 3, 6};
    const Numbers logits = bench.normal(7);
    Numbers dlogits = zeros(7);
    const auto f = [&](const Numbers& p) {
        dlogits = zeros(7);
        return sum_of([&](auto sum) {
            ops::selection_loss<B>(bench.context, vector(p), vector(kept), 0.3, vector(dlogits),
                                   0.3, sum);
        });
    };
    (void)f(logits);
    expect_gradient(f, logits, Numbers{dlogits});
}
TEST_CASE_TEMPLATE_APPLY(selection_loss, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gradient of router_z_loss", B, router_z_loss) {
    Bench<B> bench;
    const Numbers logits = bench.normal(6 * 3);
    Numbers dlogits = zeros(6 * 3);
    const auto f = [&](const Numbers& p) {
        dlogits = zeros(6 * 3);
        return sum_of([&](auto sum) {
            ops::router_z_loss<B>(bench.context, matrix(p, 6, 3), 0.3, matrix(dlogits, 6, 3), 0.3,
                                  sum);
        });
    };
    (void)f(logits);
    expect_gradient(f, logits, Numbers{dlogits});
}
TEST_CASE_TEMPLATE_APPLY(router_z_loss, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gradient of balancing_loss, through the gates only", B, balancing_loss) {
    Bench<B> bench;
    const Numbers gate = bench.normal(6 * 3);
    const std::vector<Index> best = {0, 2, 2, 1, 0, 0};
    Numbers dgate = zeros(6 * 3);
    const auto f = [&](const Numbers& p) {
        dgate = zeros(6 * 3);
        return sum_of([&](auto sum) {
            ops::balancing_loss<B>(bench.context, matrix(p, 6, 3), vector(best), 0.3,
                                   matrix(dgate, 6, 3), 0.3, sum);
        });
    };
    (void)f(gate);
    expect_gradient(f, gate, Numbers{dgate});
}
TEST_CASE_TEMPLATE_APPLY(balancing_loss, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gathering is the gradient of scattering, and the reverse", B,
                          gather_scatter) {
    Bench<B> bench;
    const Index n = 6, m = 4, width = 3;
    const std::vector<Index> rows_of = {5, 0, 3, 2};
    const auto rows = vector(rows_of);
    const Numbers x = bench.normal(n * width);
    const Numbers part = bench.normal(m * width);
    const Numbers weight = bench.normal(m);
    const Numbers dpart = bench.normal(m * width);
    const Numbers dfull = bench.normal(n * width);

    // out[i] = x[rows[i]], and with a weight.
    Numbers dx = zeros(n * width);
    ops::scatter_add_rows<B>(bench.context, matrix(dpart, m, width), rows, matrix(dx, n, width));
    const auto gather = [&](const Numbers& p) {
        Numbers out = zeros(m * width);
        ops::gather_rows<B>(bench.context, matrix(p, n, width), rows, matrix(out, m, width));
        return dot(out, dpart);
    };
    expect_gradient(gather, x, dx);

    Numbers dx_weighted = zeros(n * width);
    Numbers dweight = zeros(m);
    ops::scatter_add_rows_weighted<B>(bench.context, matrix(dpart, m, width), rows, vector(weight),
                                      matrix(dx_weighted, n, width));
    ops::row_dot<B>(bench.context, matrix(x, n, width), rows, matrix(dpart, m, width),
                    vector(dweight));
    const auto gather_weighted = [&](const Numbers& xs, const Numbers& weights) {
        Numbers out = zeros(m * width);
        ops::gather_rows_weighted<B>(bench.context, matrix(xs, n, width), rows, vector(weights),
                                     matrix(out, m, width));
        return dot(out, dpart);
    };
    expect_gradient([&](const Numbers& p) { return gather_weighted(p, weight); }, x, dx_weighted);
    expect_gradient([&](const Numbers& p) { return gather_weighted(x, p); }, weight, dweight);

    // out[rows[i]] += weight[i] part[i], with weight 1, and with any.
    Numbers dscattered = zeros(m * width);
    ops::gather_rows<B>(bench.context, matrix(dfull, n, width), rows, matrix(dscattered, m, width));
    const auto scatter_add = [&](const Numbers& p) {
        Numbers out = x;
        ops::scatter_add_rows<B>(bench.context, matrix(p, m, width), rows, matrix(out, n, width));
        return dot(out, dfull);
    };
    const auto scatter = [&](const Numbers& p) {
        Numbers out = x;
        ops::scatter_rows<B>(bench.context, matrix(p, m, width), rows, matrix(out, n, width));
        return dot(out, dfull);
    };
    expect_gradient(scatter_add, part, dscattered);
    expect_gradient(scatter, part, dscattered);

    Numbers dpart_weighted = zeros(m * width);
    Numbers dscatter_weight = zeros(m);
    ops::gather_rows_weighted<B>(bench.context, matrix(dfull, n, width), rows, vector(weight),
                                 matrix(dpart_weighted, m, width));
    ops::row_dot<B>(bench.context, matrix(dfull, n, width), rows, matrix(part, m, width),
                    vector(dscatter_weight));
    const auto scatter_weighted = [&](const Numbers& parts, const Numbers& weights) {
        Numbers out = x;
        ops::scatter_add_rows_weighted<B>(bench.context, matrix(parts, m, width), rows,
                                          vector(weights), matrix(out, n, width));
        return dot(out, dfull);
    };
    expect_gradient([&](const Numbers& p) { return scatter_weighted(p, weight); }, part,
                    dpart_weighted);
    expect_gradient([&](const Numbers& p) { return scatter_weighted(part, p); }, weight,
                    dscatter_weight);
}
TEST_CASE_TEMPLATE_APPLY(gather_scatter, BackendsUnderTest);
