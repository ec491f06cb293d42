// SPDX-License-Identifier: Apache-2.0
//
// The operations of a model at the shapes of 135M and 360M, each with its share of this machine's
// own peak, measured when the program starts.
#include "run.hpp"
#include <mor/backends/cpu/cpu.hpp>
#include <mor/core/parameter.hpp>

#include <benchmark/benchmark.h>

#include <concepts>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace {

using Cpu = mor::Cpu<float>;
using RoundingCpu = mor::Cpu<float, mor::BFloat16>;
using mor::Index;
namespace ops = mor::ops;

benchmarks::Roofline roofline;

/// Bytes of so many floats.
double bytes_of(Index count) { return static_cast<double>(count) * sizeof(float); }

template <class Backend>
struct FixtureOn {
    Backend cpu;
    mor::Context<Backend> context{cpu};
    mor::Random random{1};

    mor::MatrixView<Backend> matrix(Index rows, Index columns) {
        const auto view = context.matrix(rows, columns);
        for (Index i = 0; i < view.size(); ++i) {
            view.data()[i] = static_cast<float>(random.uniform()) - 0.5F;
        }
        return view;
    }
};
using Fixture = FixtureOn<Cpu>;

// --- products: rows, in, out
template <class Backend>
struct Product : FixtureOn<Backend> {
    explicit Product(const benchmark::State& state)
        : rows{state.range(0)}, in{state.range(1)}, out{state.range(2)} {
        weight.fill_normal(this->random, 0.02);
    }
    /// Read by a product whose weight is packed.
    [[nodiscard]] double weight_bytes() const {
        constexpr bool rounds = std::same_as<Backend, RoundingCpu>;
        return static_cast<double>(in * out) * (rounds ? sizeof(mor::BFloat16) : sizeof(float));
    }
    [[nodiscard]] double flops() const { return 2.0 * static_cast<double>(rows * in * out); }

    Index rows;
    Index in;
    Index out;
    mor::Parameter<Backend> weight{"weight", {out, in}, mor::WeightDecay::yes};
    mor::MatrixView<Backend> x = this->matrix(rows, in);
    mor::MatrixView<Backend> y = this->matrix(rows, out);
};
template <class Backend>
void product(benchmark::State& state) {
    Product<Backend> p{state};
    for (auto _ : state) {
        ops::linear<Backend>(p.context, p.x, p.weight, p.y);
    }
    benchmarks::report<Backend>(state, roofline, p.flops(),
                                p.weight_bytes() + bytes_of(p.rows * (p.in + p.out)));
}
template <class Backend>
void product_backward(benchmark::State& state) {
    Product<Backend> p{state};
    const auto dx = p.context.matrix(p.rows, p.in);
    for (auto _ : state) {
        ops::linear_backward_input<Backend>(p.context, p.y, std::as_const(p.weight).value_matrix(),
                                            dx);
        ops::linear_backward_weight<Backend>(p.context, p.y, p.x, p.weight.gradient_matrix());
    }
    benchmarks::report<Backend>(state, roofline, 2 * p.flops(),
                                bytes_of(3 * p.in * p.out + p.rows * (2 * p.in + 2 * p.out)));
}
void shapes(benchmark::internal::Benchmark* benchmark) {
    for (const Index rows : {1, 8, 32, 512}) {
        for (const auto& [in, out] : std::vector<std::pair<Index, Index>>{
                 {576, 576}, {576, 192}, {576, 1'536}, {1'536, 576}, {576, 49'152}, {960, 2'560}}) {
            benchmark->Args({rows, in, out});
        }
    }
}
void backward_shapes(benchmark::internal::Benchmark* benchmark) {
    benchmark->Args({1'024, 576, 1'536})->Args({1'024, 1'536, 576})->Args({1'024, 576, 49'152});
}
/// The same by Eigen, on one thread: it shares its own products among threads with OpenMP only.
void eigen_product(benchmark::State& state) {
    using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Matrix x = Matrix::Random(state.range(0), state.range(1));
    const Matrix weight = Matrix::Random(state.range(2), state.range(1));
    Matrix y{x.rows(), weight.rows()};
    for (auto _ : state) {
        y.noalias() = x * weight.transpose();
        benchmark::DoNotOptimize(y.data());
        benchmark::ClobberMemory();
    }
    const double flops = 2.0 * static_cast<double>(x.size() * weight.rows());
    state.counters["flop/s"] = benchmark::Counter(flops * static_cast<double>(state.iterations()),
                                                  benchmark::Counter::kIsRate);
}
BENCHMARK(eigen_product)
    ->Args({512, 576, 576})
    ->Args({512, 576, 1'536})
    ->Args({512, 1'536, 576})
    ->Args({512, 960, 2'560})
    ->UseRealTime();

BENCHMARK(product<Cpu>)->Name("product")->Apply(shapes)->UseRealTime();
BENCHMARK(product<RoundingCpu>)->Name("product_bfloat16")->Apply(shapes)->UseRealTime();
BENCHMARK(product_backward<Cpu>)->Name("product_backward")->Apply(backward_shapes)->UseRealTime();
BENCHMARK(product_backward<RoundingCpu>)
    ->Name("product_backward_bfloat16")
    ->Apply(backward_shapes)
    ->UseRealTime();

// --- attention: sequences, length of each; heads and widths of 135M
void attention(benchmark::State& state) {
    const Index sequences = state.range(0);
    const Index length = state.range(1);
    const Index rows = sequences * length;
    const mor::AttentionShape shape{.heads = 9, .kv_heads = 3, .head_dim = 64};
    Fixture f;
    const auto q = f.matrix(rows, 576);
    const auto k = f.matrix(rows, 192);
    const auto v = f.matrix(rows, 192);
    const auto out = f.context.matrix(rows, 576);
    const auto logsumexp = f.context.matrix(rows, 9);
    const auto begin = f.context.indices(rows);
    const auto end = f.context.indices(rows);
    for (Index row = 0; row < rows; ++row) {
        begin[row] = row / length * length;
        end[row] = row + 1;
    }
    const Index pairs = sequences * length * (length + 1) / 2;
    const mor::KeyRanges<Cpu> ranges{begin, end, pairs};
    for (auto _ : state) {
        ops::attention<Cpu>(f.context, shape, q, k, v, ranges, out, logsumexp);
    }
    benchmarks::report(state, roofline, 4.0 * static_cast<double>(pairs * 576),
                       bytes_of(rows * (2 * 576 + 2 * 192)));
}
BENCHMARK(attention)->Args({1, 512})->Args({4, 256})->Args({32, 64})->UseRealTime();

// --- one row after another: rows; width 576
void rms_norm(benchmark::State& state) {
    const Index rows = state.range(0);
    Fixture f;
    const auto x = f.matrix(rows, 576);
    const auto y = f.context.matrix(rows, 576);
    const auto weight = f.matrix(1, 576);
    const auto inverse = f.context.vector(rows);
    for (auto _ : state) {
        ops::rms_norm<Cpu>(f.context, x, weight.flat(), 1e-5, y, inverse);
    }
    benchmarks::report(state, roofline, 4.0 * static_cast<double>(x.size()),
                       bytes_of(2 * x.size()));
}
BENCHMARK(rms_norm)->Arg(32)->Arg(1'024)->UseRealTime();

void rope(benchmark::State& state) {
    const Index rows = state.range(0);
    Fixture f;
    const auto x = f.matrix(rows, 576);
    const auto cosine = f.matrix(rows, 32);
    const auto sine = f.matrix(rows, 32);
    const auto positions = f.context.indices(rows);
    ops::number_rows<Cpu>(f.context, positions);
    for (auto _ : state) {
        ops::rope<Cpu>(f.context, positions, cosine, sine, x, mor::Rotation::forward);
    }
    benchmarks::report(state, roofline, 3.0 * static_cast<double>(x.size()),
                       bytes_of(2 * x.size() + 2 * cosine.size()));
}
BENCHMARK(rope)->Arg(32)->Arg(1'024)->UseRealTime();

void swiglu(benchmark::State& state) {
    const Index rows = state.range(0);
    Fixture f;
    const auto gate = f.matrix(rows, 1'536);
    const auto up = f.matrix(rows, 1'536);
    const auto y = f.context.matrix(rows, 1'536);
    for (auto _ : state) {
        ops::swiglu<Cpu>(f.context, gate, up, y);
    }
    benchmarks::report(state, roofline, 12.0 * static_cast<double>(y.size()),
                       bytes_of(3 * y.size()));
}
BENCHMARK(swiglu)->Arg(32)->Arg(1'024)->UseRealTime();

// --- loss and optimiser
void cross_entropy(benchmark::State& state) {
    const Index rows = state.range(0);
    Fixture f;
    const auto logits = f.matrix(rows, 49'152);
    const auto dlogits = f.context.matrix(rows, 49'152);
    const auto targets = f.context.arena().make<mor::TokenId, 1>({rows});
    std::fill_n(targets.data(), rows, 7);
    const auto sum = f.context.arena().make_zero<double, 1>({1});
    for (auto _ : state) {
        ops::cross_entropy<Cpu>(f.context, logits, targets, 1.0, dlogits, 1.0, sum);
    }
    benchmarks::report(state, roofline, 12.0 * static_cast<double>(logits.size()),
                       bytes_of(2 * logits.size()));
}
BENCHMARK(cross_entropy)->Arg(32)->Arg(512)->UseRealTime();

void adamw(benchmark::State& state) {
    const Index count = state.range(0);
    Fixture f;
    const auto gradient = f.matrix(1, count);
    const auto value = f.matrix(1, count);
    const auto m = f.context.zero_matrix(1, count);
    const auto v = f.context.zero_matrix(1, count);
    const mor::TensorTable<Cpu> table{
        {{.gradient = gradient.flat(), .value = value.flat(), .m = m.flat(), .v = v.flat()}}};
    const mor::AdamWStep step{.learning_rate = 1e-3};
    const auto scales = f.context.arena().make_zero<double, 1>({mor::num_trained_groups});
    std::fill_n(scales.data(), scales.size(), 1.0);
    for (auto _ : state) {
        ops::adamw<Cpu>(f.context, {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8}, {&step, {1}},
                        scales, table);
    }
    benchmarks::report(state, roofline, 14.0 * static_cast<double>(count), bytes_of(7 * count));
}
BENCHMARK(adamw)->Arg(Index{576} * 1'536)->Arg(Index{576} * 49'152)->UseRealTime();

}  // namespace

int main(int argc, char** argv) {
    static_cast<void>(benchmarks::add_roofline(1));
    roofline = benchmarks::add_roofline(Cpu{}.threads());
    return benchmarks::run(argc, argv);
}
