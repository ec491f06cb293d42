// SPDX-License-Identifier: Apache-2.0
//
// A system whose products round, with activations that are kept as floats.
#pragma once

namespace mor::test {

template <class System>
struct FloatActivationsSystem : System {
    using ActivationElement = float;
};

}  // namespace mor::test
