// SPDX-License-Identifier: Apache-2.0
//
// A header of somebody's program: it mentions a model, and includes next to nothing.
#pragma once

// snippet-begin forward
#include <mor/fwd.hpp>

class Chat {
public:
    explicit Chat(const mor::instances::MoRExpertModel& model) : model_{model} {}
    int answer_length(int question) const;  // in a .cpp file, which includes <mor/instances.hpp>

private:
    const mor::instances::MoRExpertModel& model_;
};
// snippet-end
