// SPDX-License-Identifier: Apache-2.0
#include <mor/sharing/none.hpp>
#include <mor/sharing/recursive_layers.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

namespace {

using mor::Index;
using mor::Layout;
using Physical = std::vector<Index>;

/// Numbers the owners of the weights by their first use, as a Layout does.
Physical numbered_by_first_use(Index num_layers, const std::function<Index(Index)>& owner) {
    Physical owners;
    Physical physical;
    for (Index layer = 0; layer < num_layers; ++layer) {
        const auto found = std::find(owners.begin(), owners.end(), owner(layer));
        physical.push_back(found - owners.begin());
        if (found == owners.end()) {
            owners.push_back(owner(layer));
        }
    }
    return physical;
}

/// The first and last layer own their weights, `middle` owns those between.
std::function<Index(Index)> with_own_edges(Index num_layers, std::function<Index(Index)> middle) {
    return
        [=](Index layer) { return layer == 0 || layer == num_layers - 1 ? layer : middle(layer); };
}

template <class S>
Layout layout_of(Index num_layers, Index num_recursions) {
    return S{{.num_recursions = num_recursions}}.layout(num_layers);
}

template <class S>
std::string message_of(Index num_layers, Index num_recursions) {
    try {
        static_cast<void>(layout_of<S>(num_layers, num_recursions));
    } catch (const mor::ConfigError& error) {
        return error.what();
    }
    return "no error";
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("without sharing every layer is its own and none is a step") {
    for (Index layers = 1; layers < 40; ++layers) {
        const Layout layout = mor::NoSharing{}.layout(layers);
        CHECK(layout.physical == numbered_by_first_use(layers, [](Index l) { return l; }));
        CHECK(layout.num_physical() == layers);
        CHECK(layout.num_steps == 0);
        CHECK(layout.end_of_recursion() == layers);
        CHECK(layout.step_of(0) == -1);
        CHECK(layout.step_of(layers - 1) == -1);
    }
}

TEST_CASE("the examples of the paper") {
    CHECK(layout_of<mor::Cycle>(9, 3).physical == Physical{0, 1, 2, 0, 1, 2, 0, 1, 2});
    CHECK(layout_of<mor::Sequence>(9, 3).physical == Physical{0, 0, 0, 1, 1, 1, 2, 2, 2});
    CHECK(layout_of<mor::MiddleCycle>(8, 3).physical == Physical{0, 1, 2, 1, 2, 1, 2, 3});
    CHECK(layout_of<mor::MiddleSequence>(8, 3).physical == Physical{0, 1, 1, 1, 2, 2, 2, 3});
}

TEST_CASE("layouts follow the formulas for every count") {
    for (Index recursions = 1; recursions <= 6; ++recursions) {
        for (Index shared = 1; shared <= 5; ++shared) {
            const Index plain = shared * recursions;
            const Index middle = plain + 2;
            CAPTURE(recursions);
            CAPTURE(shared);

            const Layout cycle = layout_of<mor::Cycle>(plain, recursions);
            CHECK(cycle.physical ==
                  numbered_by_first_use(plain, [=](Index l) { return l % shared; }));
            CHECK(cycle.num_physical() == shared);
            CHECK(cycle.first_step_layer == 0);
            CHECK(cycle.num_steps == recursions);
            CHECK(cycle.layers_per_step == shared);

            const Layout sequence = layout_of<mor::Sequence>(plain, recursions);
            CHECK(sequence.physical == numbered_by_first_use(plain, [=](Index l) {
                      return recursions * (l / recursions);
                  }));
            CHECK(sequence.num_physical() == shared);
            CHECK(sequence.num_steps == 0);

            const Layout middle_cycle = layout_of<mor::MiddleCycle>(middle, recursions);
            CHECK(middle_cycle.physical ==
                  numbered_by_first_use(middle, with_own_edges(middle, [=](Index l) {
                                            return 1 + (l - 1) % shared;
                                        })));
            CHECK(middle_cycle.num_physical() == shared + 2);
            CHECK(middle_cycle.first_step_layer == 1);
            CHECK(middle_cycle.num_steps == recursions);
            CHECK(middle_cycle.layers_per_step == shared);
            CHECK(middle_cycle.end_of_recursion() == middle - 1);

            const Layout middle_sequence = layout_of<mor::MiddleSequence>(middle, recursions);
            CHECK(middle_sequence.physical ==
                  numbered_by_first_use(middle, with_own_edges(middle, [=](Index l) {
                                            return 1 + recursions * ((l - 1) / recursions);
                                        })));
            CHECK(middle_sequence.num_physical() == shared + 2);
            CHECK(middle_sequence.num_steps == 0);
        }
    }
}

TEST_CASE("layer_at and step_of are inverse inside the recursion") {
    const Layout layout = layout_of<mor::MiddleCycle>(14, 4);
    CHECK(layout.step_of(0) == -1);
    CHECK(layout.step_of(13) == -1);
    for (Index step = 0; step < layout.num_steps; ++step) {
        for (Index slot = 0; slot < layout.layers_per_step; ++slot) {
            const Index layer = layout.layer_at(step, slot);
            CHECK(layer == 1 + 3 * step + slot);
            CHECK(layout.step_of(layer) == step);
            CHECK(layout.physical[static_cast<std::size_t>(layer)] == 1 + slot);
        }
    }
}

TEST_CASE("an impossible count names the nearest valid ones") {
    CHECK(contains(message_of<mor::Cycle>(10, 3), "num_layers 10"));
    CHECK(contains(message_of<mor::Cycle>(10, 3), "nearest valid counts are 9 and 12"));
    CHECK(contains(message_of<mor::Sequence>(11, 4), "nearest valid counts are 8 and 12"));
    CHECK(contains(message_of<mor::MiddleCycle>(32, 4), "nearest valid counts are 30 and 34"));
    CHECK(contains(message_of<mor::MiddleSequence>(7, 4), "nearest valid counts are 6 and 10"));
    CHECK(contains(message_of<mor::MiddleSequence>(7, 4), "middle_sequence"));
}

TEST_CASE("a count that is too small, zero or negative names the smallest valid one") {
    for (const Index layers : {2, 1, 0, -1, -3, -7}) {
        CAPTURE(layers);
        CHECK(contains(message_of<mor::Cycle>(layers, 3), "nearest valid count is 3"));
        CHECK(contains(message_of<mor::Sequence>(layers, 3), "nearest valid count is 3"));
        CHECK(contains(message_of<mor::MiddleCycle>(layers, 3), "nearest valid count is 5"));
        CHECK(contains(message_of<mor::MiddleSequence>(layers, 3), "nearest valid count is 5"));
    }
    for (const Index layers : {4, 3, 2}) {
        CHECK(contains(message_of<mor::MiddleCycle>(layers, 3), "nearest valid count is 5"));
    }
    for (const Index layers : {0, -1, -7}) {
        CHECK_THROWS_WITH_AS(static_cast<void>(mor::NoSharing{}.layout(layers)),
                             doctest::Contains("nearest valid count is 1"), mor::ConfigError);
    }
}

TEST_CASE("the valid counts of the message are valid") {
    for (Index recursions = 1; recursions <= 5; ++recursions) {
        for (Index layers = 1; layers < 30; ++layers) {
            const bool valid = layers >= recursions && layers % recursions == 0;
            CHECK((message_of<mor::Cycle>(layers, recursions) == "no error") == valid);
            const bool middle = layers - 2 >= recursions && (layers - 2) % recursions == 0;
            CHECK((message_of<mor::MiddleCycle>(layers, recursions) == "no error") == middle);
        }
    }
}

TEST_CASE("num_recursions below 1 is impossible") {
    CHECK(contains(message_of<mor::Cycle>(9, 0), "num_recursions is 0, expected at least 1"));
    CHECK(contains(message_of<mor::Sequence>(9, -2), "num_recursions is -2"));
    CHECK(contains(message_of<mor::MiddleCycle>(9, 0), "num_recursions is 0"));
    CHECK(contains(message_of<mor::MiddleSequence>(9, 0), "num_recursions is 0"));
}
