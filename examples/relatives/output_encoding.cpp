// SPDX-License-Identifier: Apache-2.0
//
// Recursion encoding: the output of each recursion is multiplied, element by element, by a vector
// of its own, so that a shared stack knows which recursion it is in. With token-choice routing.
#include "relative.hpp"
#include <mor/layers/relaxation/recursion_encoding.hpp>

struct OutputEncoding : mor::MoRToken<mor::MiddleCycle> {
    using Relaxation = mor::RecursionEncoding;
};

int main(int argc, char** argv) {
    return relatives::run<OutputEncoding>(argc, argv, 1.9, relatives::small(8));
}
