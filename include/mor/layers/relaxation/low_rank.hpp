// SPDX-License-Identifier: Apache-2.0
//
// Layer-wise LoRA (Bae et al. 2024, section 2.3; Hu et al. 2021): every use of a shared projection
// adds a product of two thin matrices of its own.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/reflect.hpp>
#include <mor/layers/relaxation/none.hpp>
#include <mor/ops/scale.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace mor {

struct LowRankOptions {
    Index rank = 8;
    double scale = 2.0;  // on the product; LoRA's alpha / rank

    static constexpr auto fields() {
        return std::tuple{Field{"rank", &LowRankOptions::rank},
                          Field{"scale", &LowRankOptions::scale}};
    }
};

/// y = weight * x + scale * up * down * x. The weight is shared; "<weight>.<unrolled layer>.down"
/// [rank, inputs] and ".up" [outputs, rank] belong to a use. `up` begins as zero, so that a relaxed
/// model begins as the strict one. Layers that are not shared have no adapters.
template <Backend B>
class LowRankProjection {
    struct Adapter {
        Linear<B> down;
        Linear<B> up;
    };

    /// One use of the projection, with the interface of Linear.
    template <class Weight, class Adapter>
    class Use {
    public:
        Use(Weight& shared, Adapter* adapter, double scale)
            : shared_{shared}, adapter_{adapter}, scale_{scale} {}

        template <ProductInput<B> X, ProductOutput<B> Y>
        void forward(Context<B>& context, X x, Y y, Write write = Write::overwrite) const {
            shared_.forward(context, x, y, write);
            if (adapter_ != nullptr) {
                const typename Arena<typename B::Space>::Scope scope{context.arena()};
                adapter_->up.forward(context, narrow(context, x), y, Write::accumulate);
            }
        }
        template <ProductInput<B> X, ProductInput<B> DY, ProductOutput<B> DX>
        void backward(Context<B>& context, X x, DY dy, DX dx, Write write) {
            shared_.backward(context, x, dy, dx, write);
            if (adapter_ != nullptr) {
                const typename Arena<typename B::Space>::Scope scope{context.arena()};
                const MatrixView<B> inner = narrow(context, x);  // cheaper to repeat than to keep
                const MatrixView<B> dinner = context.matrix(x.rows(), inner.columns());
                adapter_->up.backward(context, inner, dy, dinner, Write::overwrite);
                ops::scale<B>(context, dinner, scale_, dinner);
                adapter_->down.backward(context, x, dinner, dx, Write::accumulate);
            }
        }
        [[nodiscard]] Index outputs() const { return shared_.outputs(); }

    private:
        template <ProductInput<B> X>
        [[nodiscard]] MatrixView<B> narrow(Context<B>& context, X x) const {
            const MatrixView<B> inner = context.matrix(x.rows(), adapter_->down.outputs());
            adapter_->down.forward(context, x, inner);
            ops::scale<B>(context, inner, scale_, inner);
            return inner;
        }

        Weight& shared_;
        Adapter* adapter_;
        double scale_;
    };

public:
    /// Throws ConfigError if the rank is not positive or the scale is not finite.
    LowRankProjection(const LayerUses& uses, const std::string& name, Index inputs, Index outputs,
                      const LowRankOptions& options)
        : shared_{uses.prefix() + name, inputs, outputs},
          scale_{options.scale},
          deviation_{1.0 / std::sqrt(static_cast<double>(inputs))} {
        check<ConfigError>(options.rank > 0, "mor::LowRank: rank is ", options.rank,
                           ", expected at least 1");
        check<ConfigError>(std::isfinite(options.scale), "mor::LowRank: scale is ", options.scale,
                           ", expected a number");
        const Index rank = std::min({options.rank, inputs, outputs});
        if (uses.is_shared()) {
            for (const LayerUses::Use& use : uses.uses) {
                const std::string own = uses.name_of(name, use);
                adapters_.push_back({{own + ".down", inputs, rank}, {own + ".up", rank, outputs}});
            }
        }
    }

    [[nodiscard]] auto at(Index use) {
        Adapter* adapter = adapters_.empty() ? nullptr : &adapters_[static_cast<std::size_t>(use)];
        return Use<Linear<B>, Adapter>{shared_, adapter, scale_};
    }
    [[nodiscard]] auto at(Index use) const {
        const Adapter* adapter =
            adapters_.empty() ? nullptr : &adapters_[static_cast<std::size_t>(use)];
        return Use<const Linear<B>, const Adapter>{shared_, adapter, scale_};
    }

    void initialize(Random& random, double deviation) {
        shared_.initialize(random, deviation);
        for (Adapter& adapter : adapters_) {
            adapter.down.initialize(random, deviation_);
        }
    }
    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        shared_.visit_parameters(visitor);
        for (Adapter& adapter : adapters_) {
            adapter.down.visit_parameters(visitor);
            adapter.up.visit_parameters(visitor);
        }
    }

private:
    Linear<B> shared_;
    std::vector<Adapter> adapters_;  // [uses], or none
    double scale_;
    double deviation_;
};

/// All projections of attention and feed-forward layers.
struct LowRank : NoRelaxation {
    static constexpr std::string_view name = "low_rank";
    using Options = LowRankOptions;
    template <Backend B>
    using Projection = LowRankProjection<B>;
};

}  // namespace mor
