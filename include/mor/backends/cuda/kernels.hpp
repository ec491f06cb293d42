// SPDX-License-Identifier: Apache-2.0
//
// Every kernel of the Cuda backend, for any system.
#pragma once

#include <mor/backends/cuda/attention.hpp>
#include <mor/backends/cuda/attention_backward.hpp>
#include <mor/backends/cuda/copy.hpp>
#include <mor/backends/cuda/cross_entropy.hpp>
#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/embedding.hpp>
#include <mor/backends/cuda/gate.hpp>
#include <mor/backends/cuda/gather_scatter.hpp>
#include <mor/backends/cuda/gelu.hpp>
#include <mor/backends/cuda/halting.hpp>
#include <mor/backends/cuda/linear.hpp>
#include <mor/backends/cuda/optimizer.hpp>
#include <mor/backends/cuda/rms_norm.hpp>
#include <mor/backends/cuda/rope.hpp>
#include <mor/backends/cuda/router_loss.hpp>
#include <mor/backends/cuda/rows.hpp>
#include <mor/backends/cuda/scale.hpp>
#include <mor/backends/cuda/select.hpp>
#include <mor/backends/cuda/swiglu.hpp>
#include <mor/backends/cuda/to_activations.hpp>
