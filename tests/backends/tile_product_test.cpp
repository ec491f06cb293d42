// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/backends/cuda/rounded_tiles.hpp>

using namespace backend_tests;

namespace tile_products {

using mor::cuda::in_kernel;
using mor::cuda::Reading;

/// Every product of rounded tiles, by one team.
template <class B>
struct Products {
    using Team = typename B::System::Team;
    using Tiles = mor::cuda::detail::RoundedTiles<Team>;
    using TileMaker = mor::cuda::detail::TileMaker;
    using Factors = mor::cuda::detail::Tile<mor::BFloat16>;

    mor::ConstMatrixView<B> a;           // [rows, dim]
    mor::ConstMatrixView<B> b;           // [terms, dim]
    mor::ConstMatrixView<B> w;           // [rows, terms]
    mor::ConstMatrixView<B> transposed;  // [terms, rows]
    mor::ConstVectorView<B> decay;       // [rows]
    mor::MatrixView<B> scores;           // a b^T
    mor::MatrixView<B> sums;             // decay * (w b) + w b
    mor::MatrixView<B> more_sums;        // transposed^T b

    struct Shared {
        Factors a, b, w, transposed;
        mor::cuda::detail::Tile<float> scores;
        float* decay;
        typename Tiles::Sums sums;

        MOR_HOST_DEVICE Shared(TileMaker& memory, int rows, int terms, int dim)
            : a{Tiles::factors(memory, rows, dim)},
              b{Tiles::factors(memory, terms, dim)},
              w{Tiles::factors(memory, rows, terms)},
              transposed{Tiles::factors(memory, terms, rows)},
              scores{Tiles::scores(memory, {rows, terms})},
              decay{memory.numbers<float>(rows)},
              sums{memory, rows, dim} {}
    };

    [[nodiscard]] MOR_HOST_DEVICE Shared make(TileMaker& memory) const {
        return {memory, Tiles::padded(static_cast<int>(a.rows())),
                Tiles::padded(static_cast<int>(b.rows())), static_cast<int>(a.columns())};
    }
    [[nodiscard]] std::size_t shared_bytes() const {
        TileMaker memory{nullptr};
        static_cast<void>(make(memory));
        return memory.used_bytes();
    }

    MOR_HOST_DEVICE void operator()(Team& team, Index /*i*/) const {
        TileMaker memory{team.template shared<std::byte>()};
        Shared shared = make(memory);
        const auto rows = static_cast<int>(a.rows());
        const auto terms = static_cast<int>(b.rows());
        const auto dim = static_cast<int>(a.columns());
        Tiles::load(team, in_kernel(a), 0, rows, 0, dim, shared.a);
        Tiles::load(team, in_kernel(b), 0, terms, 0, dim, shared.b);
        Tiles::load(team, in_kernel(w), 0, rows, 0, terms, shared.w);
        Tiles::load(team, in_kernel(transposed), 0, terms, 0, rows, shared.transposed);
        for (int i = static_cast<int>(team.rank()); i < Tiles::padded(rows);
             i += static_cast<int>(team.size())) {
            shared.decay[i] = i < rows ? in_kernel(decay)[i] : 1;
        }
        team.sync();
        Tiles::multiply(team, shared.a, rows, shared.b, terms, dim, shared.scores);
        team.sync();
        mor::cuda::detail::for_each_element(team, rows, terms, [&](int i, int j) {
            in_kernel(scores)(i, j) = shared.scores(i, j);
        });
        shared.sums.clear(team, rows);
        shared.sums.template add<Reading::as_stored>(team, shared.w, rows, terms, shared.b,
                                                     nullptr);
        shared.sums.template add<Reading::as_stored>(team, shared.w, rows, terms, shared.b,
                                                     shared.decay);
        shared.sums.each(team, rows, [&](int i, int c, float sum) { in_kernel(sums)(i, c) = sum; });
        shared.sums.clear(team, rows);
        shared.sums.template add<Reading::transposed>(team, shared.transposed, rows, terms,
                                                      shared.b, nullptr);
        shared.sums.each(team, rows,
                         [&](int i, int c, float sum) { in_kernel(more_sums)(i, c) = sum; });
    }
};

}  // namespace tile_products

TEST_CASE_TEMPLATE_DEFINE("products of rounded tiles are exact where the numbers are", B,
                          tile_products_are_exact) {
    struct Size {
        Index rows, terms, dim;
    };
    for (const auto& [rows, terms, dim] :
         {Size{64, 64, 128}, Size{1, 1, 1}, Size{33, 17, 24}, Size{16, 48, 40}, Size{50, 64, 101},
          Size{32, 20, 256}}) {
        CAPTURE(rows);
        CAPTURE(terms);
        CAPTURE(dim);
        Bench<B> bench;
        const auto integers = [&](Index m, Index n) {
            std::vector<double> values;
            for (Index i = 0; i < m * n; ++i) {
                values.push_back(static_cast<double>(bench.random().below(17)) - 8);
            }
            return bench.matrix_of(m, n, values);
        };
        auto a = integers(rows, dim);
        auto b = integers(terms, dim);
        auto w = integers(rows, terms);
        auto transposed = integers(terms, rows);
        std::vector<double> factors;
        for (Index i = 0; i < rows; ++i) {
            factors.push_back(std::ldexp(1.0, static_cast<int>(i % 5) - 3));
        }
        auto decay = bench.vector_of(factors);
        auto scores = bench.matrix(rows, terms);
        auto sums = bench.matrix(rows, dim);
        auto more_sums = bench.matrix(rows, dim);
        for (Index i = 0; i < rows; ++i) {
            for (Index j = 0; j < terms; ++j) {
                double& score = scores.oracle.view()(i, j) = 0;
                for (Index c = 0; c < dim; ++c) {
                    score += a.oracle.view()(i, c) * b.oracle.view()(j, c);
                }
            }
            for (Index c = 0; c < dim; ++c) {
                double& sum = sums.oracle.view()(i, c) = 0;
                double& other = more_sums.oracle.view()(i, c) = 0;
                for (Index j = 0; j < terms; ++j) {
                    sum += w.oracle.view()(i, j) * b.oracle.view()(j, c);
                    other += transposed.oracle.view()(j, i) * b.oracle.view()(j, c);
                }
                sum *= 1 + factors[static_cast<std::size_t>(i)];
            }
        }
        const tile_products::Products<B> products{
            a.tested.view(),     b.tested.view(),      w.tested.view(),    transposed.tested.view(),
            decay.tested.view(), scores.tested.view(), sums.tested.view(), more_sums.tested.view()};
        bench.context().backend().system().for_each_team(1, products.shared_bytes(), products);
        const auto exact = [](auto& pair) {
            return mor::testing::mismatch(pair.tested.view(), pair.oracle.view(), 0);
        };
        CHECK(exact(scores) == "");
        CHECK(exact(sums) == "");
        CHECK(exact(more_sums) == "");
    }
}
TEST_CASE_TEMPLATE_APPLY(tile_products_are_exact, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("tiles hold the nearest bfloat16", B, tiles_round) {
    constexpr std::size_t rows = 40;
    constexpr std::size_t dim = 30;
    Bench<B> bench;
    std::vector<double> numbers = mor::testing::normal_values(bench.random(), rows * dim);
    numbers[0] = 1 + 0x1p-8;      // of two the even one
    numbers[1] = 1 + 3 * 0x1p-8;  // the same, upwards
    numbers[2] = 0x1p-140;        // to 0
    numbers[dim] = 3.4e38;        // to infinity, which makes the rest of its row NaN
    auto a = bench.matrix_of(rows, dim, numbers);
    std::vector<double> ones(dim * dim, 0.0);
    for (std::size_t i = 0; i < dim; ++i) {
        ones[i * dim + i] = 1;
    }
    auto unit = bench.matrix_of(dim, dim, ones);
    auto w = bench.matrix(rows, dim);
    auto transposed = bench.matrix(dim, rows);
    auto decay = bench.vector(rows);
    auto scores = bench.matrix(rows, dim);
    auto sums = bench.matrix(rows, dim);
    const tile_products::Products<B> products{
        a.tested.view(),     unit.tested.view(),   w.tested.view(),    transposed.tested.view(),
        decay.tested.view(), scores.tested.view(), sums.tested.view(), sums.tested.view()};
    bench.context().backend().system().for_each_team(1, products.shared_bytes(), products);
    const auto tested = mor::to_host(scores.tested.view());
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        if (i <= dim || i >= 2 * dim) {
            CHECK(tested[i] == mor::to_float(mor::to_bfloat16(static_cast<float>(numbers[i]))));
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(tiles_round, BackendsUnderTest);
