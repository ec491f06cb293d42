// SPDX-License-Identifier: Apache-2.0
// expected-error: mor: SchedulingPolicy: a scheduling needs static 'name', 'mixes_depths'
#include <mor/mor.hpp>

struct Endless {
    static constexpr const char* name = "test.endless";
    static constexpr bool mixes_depths = true;
    static bool admits(const mor::EngineLoad&) { return true; }
};

mor::Engine<mor::Vanilla, mor::Cpu<float>, Endless>* engine = nullptr;
