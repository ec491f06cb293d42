// SPDX-License-Identifier: Apache-2.0
// expected-error: mor: ServableArchitecture: an engine serves routers that decide about each row
#include <mor/mor.hpp>
#include <mor/routing/halting.hpp>

struct Halting : mor::DefaultArchitecture {
    using Sharing = mor::Cycle;
    using Router = mor::ExitGate;
};

mor::Engine<Halting, mor::Cpu<float>>* engine = nullptr;
