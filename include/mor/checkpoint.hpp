// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints and text files. Needs nlohmann-json: link mor::io instead of mor::mor.
#pragma once

#include <mor/checkpoint/any_model.hpp>
#include <mor/checkpoint/metrics.hpp>
#include <mor/checkpoint/model.hpp>
#include <mor/checkpoint/training.hpp>
#include <mor/io/byte_corpus.hpp>
