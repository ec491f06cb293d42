// SPDX-License-Identifier: Apache-2.0
//
// The comparison that the other tests of this folder trust, and the coverage of the backends.
#include "backends/backends.hpp"

#include <limits>

using namespace backend_tests;
using mor::testing::componentwise_mismatch;
using mor::testing::mismatch;
using mor::testing::tolerance;

namespace {

using Numbers = View<const double, 1>;

// Every operation; a backend that lacks one does not compile here, and says which.
template <class B, class Op>
constexpr bool has_kernel() {
    static_assert(mor::Implements<B, Op>, "mor: a backend under test lacks a kernel");
    return true;
}

using AllOperations = std::tuple<
    mor::op::AdamW, mor::op::AddPairs, mor::op::Attention, mor::op::AttentionBackward,
    mor::op::BalancingLoss, mor::op::BestColumn, mor::op::CapacityCounts, mor::op::ClipScales,
    mor::op::ComposeIndices, mor::op::Copy, mor::op::CountValues, mor::op::CrossEntropy,
    mor::op::Embedding, mor::op::EmbeddingBackward, mor::op::Fill, mor::op::FillIndices,
    mor::op::GatherRows, mor::op::GatherRowsWeighted, mor::op::Gate, mor::op::GateBackward,
    mor::op::Gelu, mor::op::GeluBackward, mor::op::GradientNorms, mor::op::Linear,
    mor::op::LinearBackwardInput, mor::op::LinearBackwardWeight, mor::op::NumberRows,
    mor::op::PickColumn, mor::op::PickColumnBackward, mor::op::RmsNorm, mor::op::RmsNormBackward,
    mor::op::Rope, mor::op::RouterZLoss, mor::op::RowDot, mor::op::Scale, mor::op::ScatterAddRows,
    mor::op::ScatterAddRowsWeighted, mor::op::ScatterRows, mor::op::SelectAtLeast,
    mor::op::SelectGreater, mor::op::SelectRows, mor::op::SelectionLoss, mor::op::SwiGlu,
    mor::op::SwiGluBackward, mor::op::TopK, mor::op::UniformByPosition, mor::op::VisibleKeys>;

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("a backend implements every operation", B, coverage) {
    CHECK(mor::Backend<B>);
    []<class... Ops>(std::type_identity<std::tuple<Ops...>>) {
        CHECK((has_kernel<B, Ops>() && ...));
    }(std::type_identity<AllOperations>{});
}
TEST_CASE_TEMPLATE_APPLY(coverage, BackendsUnderTest);

TEST_CASE("tolerance follows the element type and the length of the sum") {
    CHECK(tolerance<float>(1) == 16 * double{std::numeric_limits<float>::epsilon()});
    CHECK(tolerance<double>(1) == 16 * std::numeric_limits<double>::epsilon());
    CHECK(tolerance<float>(0) == tolerance<float>(1));
    CHECK(tolerance<float>(100) > tolerance<float>(1));
    CHECK(tolerance<float>(10'000) < 1e-3);
}

TEST_CASE("mismatch says where, what, and how much was allowed") {
    const std::vector<double> expected = {1, 2, -8, 4, 5, 6};
    const std::vector<double> actual = {1, 2.25, -8, 4, 5, 6.5};
    const auto view = [](const std::vector<double>& x) {
        return View<const double, 2>{x.data(), {2, 3}};
    };
    CHECK(mismatch(view(actual), view(expected), 1.0 / 64) ==
          "2 of 6 elements differ, most at [1, 2]: expected 6, actual 6.5, difference 0.5, "
          "allowed 0.125");
    CHECK(mismatch(view(actual), view(expected), 1.0 / 32) ==
          "1 of 6 elements differ, most at [1, 2]: expected 6, actual 6.5, difference 0.5, "
          "allowed 0.25");
    CHECK(mismatch(view(actual), view(expected), 1.0 / 16) == "");
    // By element: allowed is a sixteenth of each, and 0.25 is an eighth of 2.
    CHECK(componentwise_mismatch(view(actual), view(expected), view(expected), 1.0 / 16) ==
          "2 of 6 elements differ, most at [0, 1]: expected 2, actual 2.25, difference 0.25, "
          "allowed 0.125");
    CHECK(componentwise_mismatch(view(actual), view(expected), view(expected), 1.0 / 8) == "");
}

TEST_CASE("mismatch is not fooled by NaN, infinity, zero or different extents") {
    const double infinity = std::numeric_limits<double>::infinity();
    const double not_a_number = std::numeric_limits<double>::quiet_NaN();
    const auto differ = [](std::vector<double> actual, std::vector<double> expected) {
        const Numbers a{actual.data(), {static_cast<Index>(actual.size())}};
        const Numbers e{expected.data(), {static_cast<Index>(expected.size())}};
        return mismatch(a, e, 0.5) != "";
    };
    CHECK(!differ({}, {}));
    CHECK(!differ({0, 0}, {0, 0}));
    CHECK(!differ({infinity, 1}, {infinity, 1}));
    CHECK(differ({1e-300}, {0}));
    CHECK(differ({not_a_number, 1}, {1, 1}));
    CHECK(differ({1, 1}, {1, not_a_number}));
    CHECK(differ({not_a_number}, {not_a_number}));
    CHECK(differ({infinity}, {1e300}));
    CHECK(differ({infinity}, {-infinity}));
    CHECK(differ({infinity, 1}, {infinity, 3}));
    CHECK(differ({1, 2}, {1}));
    const double x = 1;
    CHECK(mismatch(Numbers{&x, {1}}, Numbers{nullptr, {0}}, 0.5) == "actual is [1], expected [0]");
}

TEST_CASE("mismatch of integers is exact") {
    const std::vector<Index> a = {4, 9, 1};
    const std::vector<Index> b = {4, 8, 3};
    const auto view = [](const std::vector<Index>& x) {
        return View<const Index, 1>{x.data(), {static_cast<Index>(x.size())}};
    };
    CHECK(mismatch(view(a), view(a)) == "");
    CHECK(mismatch(view(a), view(b)) ==
          "2 of 3 elements differ, most at [2]: expected 3, actual 1, difference 2, allowed 0");
}

TEST_CASE("random numbers are the same for float and double") {
    mor::Random a{5};
    mor::Random b{5};
    Tensor<float, 2> x{{3, 40}};
    Tensor<double, 2> y{{3, 40}};
    mor::testing::random_fill(x.view(), a);
    mor::testing::random_fill(y.view(), b);
    CHECK(mismatch(x.view(), y.view(), 0.0) == "");
    for (const Index i : mor::testing::uniform_integers(a, 100, -3, 4)) {
        CHECK(i >= -3);
        CHECK(i < 4);
    }
}
