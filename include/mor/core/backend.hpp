// SPDX-License-Identifier: Apache-2.0
//
// What a backend is: an element type, a memory space and a set of kernels. An operation is a tag;
// a backend implements it by specialising Kernel<Op, B>.
#pragma once

#include <mor/core/arena.hpp>
#include <mor/core/space.hpp>
#include <mor/core/tensor.hpp>
#include <mor/core/types.hpp>
#include <mor/core/view.hpp>

#include <concepts>
#include <string_view>

namespace mor {

/// A place to compute: `Element` is the type of weights and activations, `Space` their memory.
template <class B>
concept Backend = requires {
    typename B::Element;
    requires std::floating_point<typename B::Element>;
    typename B::Space;
    requires MemorySpace<typename B::Space>;
    { B::name } -> std::convertible_to<std::string_view>;
};

/// A backend whose products like weights in an order of their own: `PackedWeight` begins
/// empty, `pack(const B&, weight [out, in])` fills it, again and again if the weight changes, and
/// op::Linear takes it. `pays(rows, out)` says whether it is worth its memory for products with so
/// many rows of the other factor.
template <class B>
concept PacksWeights = Backend<B> && requires {
    requires std::default_initializable<typename B::PackedWeight>;
    { B::PackedWeight::pays(Index{}, Index{}) } -> std::same_as<bool>;
};

/// One whose packed weights op::LinearBackwardInput takes too.
template <class B>
concept PacksWeightsForGradients = PacksWeights<B> && B::PackedWeight::serves_input_gradient;

namespace detail {

template <class B>
struct ActivationElementOf {
    using Type = typename B::Element;
};
template <class B>
    requires requires { typename B::ActivationElement; }
struct ActivationElementOf<B> {
    using Type = typename B::ActivationElement;
};

}  // namespace detail

/// The numbers of activations inside a layer, between its norm and the residual stream: `Element`,
/// unless the backend names another `ActivationElement`, to which its products would round them.
template <Backend B>
using ActivationElement = typename detail::ActivationElementOf<B>::Type;

/// A backend whose memory ordinary code can read and write.
template <class B>
concept HostBackend = Backend<B> && std::same_as<typename B::Space, HostSpace>;

/// Backend B's implementation of operation Op: a struct with a static member function `run`.
template <class Op, class B>
struct Kernel;

/// True when backend B has a kernel for Op.
template <class B, class Op>
concept Implements = Backend<B> && requires { sizeof(Kernel<Op, B>); };

template <Backend B>
using MatrixView = View<typename B::Element, 2, typename B::Space>;
template <Backend B>
using ConstMatrixView = View<const typename B::Element, 2, typename B::Space>;
template <Backend B>
using ActivationView = View<ActivationElement<B>, 2, typename B::Space>;
template <Backend B>
using ConstActivationView = View<const ActivationElement<B>, 2, typename B::Space>;
template <Backend B>
using VectorView = View<typename B::Element, 1, typename B::Space>;
template <Backend B>
using ConstVectorView = View<const typename B::Element, 1, typename B::Space>;
template <Backend B>
using IndexView = View<Index, 1, typename B::Space>;
template <Backend B>
using ConstIndexView = View<const Index, 1, typename B::Space>;
template <Backend B>
using ConstTokenView = View<const TokenId, 1, typename B::Space>;
/// One number, [1], that operations add to: it need not come to the host before all have.
template <Backend B>
using SumView = View<double, 1, typename B::Space>;
template <Backend B>
using ConstSumView = View<const double, 1, typename B::Space>;

/// A matrix that products of B multiply by a weight: of elements or of activations.
template <class X, class B>
concept ProductInput =
    std::convertible_to<X, ConstMatrixView<B>> || std::convertible_to<X, ConstActivationView<B>>;

/// A matrix that products of B write, or other operations in their place.
template <class Y, class B>
concept ProductOutput =
    std::convertible_to<Y, MatrixView<B>> || std::convertible_to<Y, ActivationView<B>>;

/// The read-only view of such a matrix, by which kernels take it.
template <Backend B, class X>
    requires ProductInput<X, B>
using ReadOnly = View<const typename X::Number, 2, typename B::Space>;

/// What one thread of computation carries along: the backend, its scratch memory, and a count of
/// the floating-point operations that the products and attention have really executed.
template <Backend B>
class Context {
public:
    using Element = typename B::Element;
    using Space = typename B::Space;

    explicit Context(B& backend) : backend_{&backend} {}

    [[nodiscard]] B& backend() const { return *backend_; }
    [[nodiscard]] Arena<Space>& arena() { return arena_; }

    [[nodiscard]] MatrixView<B> matrix(Index rows, Index columns) {
        return arena_.template make<Element, 2>({rows, columns});
    }
    [[nodiscard]] MatrixView<B> zero_matrix(Index rows, Index columns) {
        return arena_.template make_zero<Element, 2>({rows, columns});
    }
    /// For what products and attention read.
    [[nodiscard]] ActivationView<B> activation_matrix(Index rows, Index columns) {
        return arena_.template make<ActivationElement<B>, 2>({rows, columns});
    }
    [[nodiscard]] VectorView<B> vector(Index size) {
        return arena_.template make<Element, 1>({size});
    }
    [[nodiscard]] VectorView<B> zero_vector(Index size) {
        return arena_.template make_zero<Element, 1>({size});
    }
    [[nodiscard]] IndexView<B> indices(Index size) {
        return arena_.template make<Index, 1>({size});
    }

    [[nodiscard]] IndexView<B> zero_indices(Index size) {
        return arena_.template make_zero<Index, 1>({size});
    }

    /// Waits for the device if some of them were counted there.
    [[nodiscard]] double flops() const {
        double flops = flops_;
        for (const double counted : to_host(device_flops_.view())) {
            flops += counted;
        }
        return flops;
    }
    void count_flops(double flops) { flops_ += flops; }
    /// Where kernels add operations whose number the host does not know, [1].
    [[nodiscard]] SumView<B> device_flops() {
        if (device_flops_.size() == 0) {
            device_flops_ = Tensor<double, 1, Space>{{1}};
        }
        return device_flops_.view();
    }

private:
    B* backend_;
    Arena<Space> arena_;
    double flops_ = 0;
    Tensor<double, 1, Space> device_flops_;
};

}  // namespace mor
