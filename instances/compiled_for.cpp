// SPDX-License-Identifier: Apache-2.0
//
// Which vector instructions the component was compiled for; see mor/instances.hpp.
#include <mor/instances.hpp>

namespace mor::instances {

template <Index float_packet, Index packets_in_panel, bool multiplies_bfloat16, bool fuses,
          Index alignment>
const bool
    CompiledFor<float_packet, packets_in_panel, multiplies_bfloat16, fuses, alignment>::agrees =
        true;
template struct CompiledFor<cpu::detail::packet_size<float>, cpu::detail::panel_packets,
                            cpu::detail::ProductFactors<float, BFloat16>::group == 2,
                            cpu::detail::fuses_multiply_add, EIGEN_MAX_ALIGN_BYTES>;

}  // namespace mor::instances
