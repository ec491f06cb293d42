// SPDX-License-Identifier: Apache-2.0
//
// Everything public with the CPU backend. Checkpoints are in mor/checkpoint.hpp, because they
// need a JSON library and this header needs only Eigen.
#pragma once

#include <mor/backends/cpu/cpu.hpp>
#include <mor/cache/hybrid.hpp>
#include <mor/cache/pattern_sharing.hpp>
#include <mor/config.hpp>
#include <mor/generate/generate.hpp>
#include <mor/layers/relaxation/adaption_prompt.hpp>
#include <mor/layers/relaxation/low_rank.hpp>
#include <mor/layers/relaxation/recursion_encoding.hpp>
#include <mor/layers/relaxation/unshared_norms.hpp>
#include <mor/model/backward.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>
#include <mor/routing/halting.hpp>
#include <mor/routing/random_choice.hpp>
#include <mor/routing/random_depth.hpp>
#include <mor/serve/engine.hpp>
#include <mor/sharing/alternating.hpp>
#include <mor/sharing/sandwich.hpp>
#include <mor/train/trainer.hpp>
#include <mor/version.hpp>
