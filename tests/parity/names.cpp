// SPDX-License-Identifier: Apache-2.0
#include "parity/names.hpp"

#include <mor/core/error.hpp>

#include <charconv>

namespace parity {

namespace {

/// Reads a name from left to right.
class Reader {
public:
    explicit Reader(std::string_view text) : whole_{text}, rest_{text} {}

    bool skip(std::string_view word) {
        if (!rest_.starts_with(word)) {
            return false;
        }
        rest_.remove_prefix(word.size());
        return true;
    }
    /// A number and the dot after it.
    Index number() {
        Index value = 0;
        const auto end = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value).ptr;
        rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
        mor::check<mor::ConfigError>(skip("."), "parameter '", whole_, "' has an unknown name");
        return value;
    }
    [[nodiscard]] std::string rest() const { return std::string{rest_}; }

private:
    std::string_view whole_;
    std::string_view rest_;
};

}  // namespace

std::string Names::parameter(std::string_view theirs) const {
    Reader reader{theirs};
    if (!reader.skip("model.layers.")) {
        return std::string{theirs};
    }
    const Index top = reader.number();
    const Index first = layout_.first_step_layer;
    const std::string router = routing_ == Routing::expert_choice
                                   ? "model.routers." + std::to_string(top - first) + "."
                                   : "model.router.";
    if (reader.skip("mor_router.router.")) {
        return router + reader.rest();
    }
    if (reader.skip("mlp_router.router.")) {
        return router + "auxiliary." + reader.rest();
    }
    if (reader.skip("router_bias")) {
        return router + "bias";
    }
    Index unrolled = top;
    if (routing_ == Routing::none) {
        reader.skip("block.");  // around a layer with a recursion encoding
    } else if (reader.skip("block.")) {
        unrolled = layout_.layer_at(top - first, reader.number());
    } else if (reader.skip("block_list.")) {
        const Index step = reader.number();
        unrolled = layout_.layer_at(step, reader.number());
    } else if (routing_ != Routing::none && top >= first) {
        unrolled = top - top_level_layers_ + layout_.num_unrolled();
    }
    const Index physical = layout_.physical.at(static_cast<std::size_t>(unrolled));
    return "model.layers." + std::to_string(physical) + "." + of_use(reader.rest(), unrolled);
}

std::string Names::of_use(std::string name, Index unrolled) const {
    constexpr std::string_view wrapped = "self_attn.model.";
    if (name.starts_with(wrapped)) {
        return "self_attn." + name.substr(wrapped.size());
    }
    const bool is_own =
        name.find("recursion_encoding") != std::string::npos ||
        name.find("adaption_") != std::string::npos ||
        (relaxation_ == Relaxation::unshared_norms && name.find("layernorm") != std::string::npos);
    return is_own ? name + "." + std::to_string(unrolled) : name;
}

std::string Names::after_layer(Index layer) const {
    const bool after = routing_ != Routing::none && layer >= layout_.first_step_layer;
    return "hidden." +
           std::to_string(after ? layer - layout_.num_unrolled() + top_level_layers_ : layer);
}

std::string Names::after_step(Index step) const {
    // Between the steps of token choice the authors' numbers are not recorded.
    return routing_ == Routing::expert_choice
               ? "hidden." + std::to_string(layout_.first_step_layer + step)
               : "";
}

std::string Names::after_recursion() const {
    return routing_ == Routing::token_choice ? "hidden." + std::to_string(layout_.first_step_layer)
                                             : "";
}

}  // namespace parity
