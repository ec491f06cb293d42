// SPDX-License-Identifier: Apache-2.0
//
// The published architectures, compiled once: a program that includes this header and links
// mor::instances compiles faster, as the compiler finds their passes, generation and serving in the
// library. Anything else is compiled where it is used, as ever.
#pragma once

#include <mor/fwd.hpp>
#include <mor/mor.hpp>

#include <span>

namespace mor::instances {

/// The backends that the component is compiled for.
using Float = Cpu<float>;
using Rounding = Cpu<float, BFloat16>;

/// What programs and the component must have been compiled alike for. `agrees` is defined in the
/// component only: a program that differs in one of these does not link.
template <Index float_packet, Index packets_in_panel, bool multiplies_bfloat16, bool fuses,
          Index alignment>
struct CompiledFor {
    static const bool agrees;
};
using CompiledForThis = CompiledFor<cpu::detail::packet_size<float>, cpu::detail::panel_packets,
                                    cpu::detail::ProductFactors<float, BFloat16>::group == 2,
                                    cpu::detail::fuses_multiply_add, EIGEN_MAX_ALIGN_BYTES>;
inline const bool component_agrees = CompiledForThis::agrees;

/// Models with names that mor/fwd.hpp can declare; they are models in every other respect.
class VanillaModel : public Model<Vanilla, Float> {
    using Model::Model;
};
class RecursiveModel : public Model<Recursive<>, Float> {
    using Model::Model;
};
class MoRExpertModel : public Model<MoRExpert<>, Float> {
    using Model::Model;
};
class MoRTokenModel : public Model<MoRToken<>, Float> {
    using Model::Model;
};

}  // namespace mor::instances

// An explicit instantiation cannot be a template; `prefix` is `template` or `extern template`.
#define MOR_INSTANCE(prefix, A, B)                                                            \
    prefix class mor::Model<A, B>;                                                            \
    prefix class mor::detail::Walk<A, B, mor::NoObserver>;                                    \
    prefix void mor::Model<A, B>::forward<mor::NoObserver>(                                   \
        mor::Context<B>&, const mor::Batch&, const mor::ForwardOptions&, mor::Trace<A, B>&,   \
        mor::NoObserver&&) const;                                                             \
    prefix void mor::Model<A, B>::extend<mor::NoObserver>(                                    \
        mor::Context<B>&, const mor::Batch&, mor::KeyValueCache<B>&, mor::Trace<A, B>&,       \
        const mor::ExtendOptions&, mor::NoObserver&&) const;                                  \
    prefix void mor::backward<A, B>(mor::Model<A, B>&, mor::Context<B>&, mor::Trace<A, B>&,   \
                                    mor::ConstMatrixView<B>, const mor::BackwardOptions&);    \
    prefix mor::Generated mor::generate<A, B>(const mor::Model<A, B>&, mor::Context<B>&,      \
                                              std::span<const mor::TokenId>,                  \
                                              const mor::GenerateOptions&);                   \
    prefix mor::Generated mor::generate<A, B>(                                                \
        const mor::Model<A, B>&, std::span<const mor::TokenId>, const mor::GenerateOptions&); \
    prefix class mor::Engine<A, B>;

#define MOR_INSTANCES_OF(prefix, A)                \
    MOR_INSTANCE(prefix, A, mor::instances::Float) \
    MOR_INSTANCE(prefix, A, mor::instances::Rounding)

#ifndef MOR_COMPILES_INSTANCES
MOR_INSTANCES_OF(extern template, mor::Vanilla)
MOR_INSTANCES_OF(extern template, mor::Recursive<>)
MOR_INSTANCES_OF(extern template, mor::MoRExpert<>)
MOR_INSTANCES_OF(extern template, mor::MoRToken<>)
#undef MOR_INSTANCES_OF
#undef MOR_INSTANCE
#endif
