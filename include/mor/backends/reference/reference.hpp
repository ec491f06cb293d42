// SPDX-License-Identifier: Apache-2.0
//
// Reference<T>: every operation as plain loops, the oracle of the other backends.
#pragma once

#include <mor/backends/host/copy.hpp>
#include <mor/backends/host/halting.hpp>
#include <mor/backends/host/rows.hpp>
#include <mor/backends/host/scale.hpp>
#include <mor/backends/host/select.hpp>
#include <mor/backends/reference/attention.hpp>
#include <mor/backends/reference/cross_entropy.hpp>
#include <mor/backends/reference/device.hpp>
#include <mor/backends/reference/embedding.hpp>
#include <mor/backends/reference/gate.hpp>
#include <mor/backends/reference/gather_scatter.hpp>
#include <mor/backends/reference/gelu.hpp>
#include <mor/backends/reference/linear.hpp>
#include <mor/backends/reference/optimizer.hpp>
#include <mor/backends/reference/rms_norm.hpp>
#include <mor/backends/reference/rope.hpp>
#include <mor/backends/reference/router_loss.hpp>
#include <mor/backends/reference/select.hpp>
#include <mor/backends/reference/swiglu.hpp>
