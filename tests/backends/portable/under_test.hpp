// SPDX-License-Identifier: Apache-2.0
//
// The Cpu backend for any x86-64 processor.
#pragma once

#include "../cpu/under_test.hpp"

#ifdef __x86_64__
static_assert(!mor::cpu::detail::fuses_multiply_add && mor::cpu::detail::packet_size<float> == 4,
              "compiled for a newer processor");
#endif
