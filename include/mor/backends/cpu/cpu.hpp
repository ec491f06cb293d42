// SPDX-License-Identifier: Apache-2.0
//
// Cpu<T, Factor>: the backend for ordinary processors, over Eigen's vectors and its thread pool.
// Compile with the machine's vector instructions (-march=native): both need them.
#pragma once

#include <mor/backends/cpu/attention.hpp>
#include <mor/backends/cpu/attention_backward.hpp>
#include <mor/backends/cpu/cross_entropy.hpp>
#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/embedding.hpp>
#include <mor/backends/cpu/gate.hpp>
#include <mor/backends/cpu/gather_scatter.hpp>
#include <mor/backends/cpu/gelu.hpp>
#include <mor/backends/cpu/linear.hpp>
#include <mor/backends/cpu/optimizer.hpp>
#include <mor/backends/cpu/rms_norm.hpp>
#include <mor/backends/cpu/rope.hpp>
#include <mor/backends/cpu/router_loss.hpp>
#include <mor/backends/cpu/select.hpp>
#include <mor/backends/cpu/swiglu.hpp>
#include <mor/backends/host/copy.hpp>
#include <mor/backends/host/halting.hpp>
#include <mor/backends/host/rows.hpp>
#include <mor/backends/host/scale.hpp>
#include <mor/backends/host/select.hpp>
