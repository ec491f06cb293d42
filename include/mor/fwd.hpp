// SPDX-License-Identifier: Apache-2.0
//
// Names without definitions, for headers that only mention models: costs nothing, and no Eigen.
// `Model<A, B>` itself cannot be named so, for its concepts look into the architecture and the
// backend; the models of mor/instances.hpp can.
#pragma once

namespace mor {

struct Generated;
struct GenerateOptions;
struct ModelConfig;
struct SamplingOptions;

namespace instances {

class VanillaModel;
class RecursiveModel;
class MoRExpertModel;
class MoRTokenModel;

}  // namespace instances
}  // namespace mor
