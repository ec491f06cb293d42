// SPDX-License-Identifier: Apache-2.0
//
// A system for the kernels of the CUDA backend on the processor whose work gathers and becomes
// graphs, as a GPU's may: what reads results before somebody waited, or is not repeated by a graph,
// fails where there is no GPU.
#pragma once

#include <mor/backends/cuda/command_queue.hpp>
#include <mor/backends/cuda/host_system.hpp>

#include <cstddef>
#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

namespace backend_tests {

/// The device of the queue. What is handed over while a graph records does not run.
struct ProcessorCommands {
    static void* allocate_staging(std::size_t bytes) { return mor::HostSpace::allocate(bytes); }
    static void free_staging(void* p) noexcept { mor::HostSpace::deallocate(p); }
    static void upload(void* destination, const void* staged, std::size_t bytes) {
        hand_over([=] { std::memcpy(destination, staged, bytes); });
    }

    template <class Work>
    static void hand_over(const Work& work) {
        if (recording() != nullptr) {
            recording()->push_back(work);
        } else {
            work();
        }
    }

    /// The processor has done all that was handed over.
    struct Event {
        void record() {}
        void wait() {}
    };

    class Graph {
    public:
        template <class HandOver>
        explicit Graph(const HandOver& hand_over) {
            recording() = &work_;
            hand_over();
            recording() = nullptr;
        }
        void launch() {
            for (const auto& work : work_) {
                work();
            }
        }

    private:
        std::vector<std::function<void()>> work_;
    };

private:
    [[nodiscard]] static std::vector<std::function<void()>>*& recording() {
        static std::vector<std::function<void()>>* work = nullptr;
        return work;
    }
};

[[nodiscard]] inline mor::cuda::CommandQueue<ProcessorCommands>& queue() {
    static mor::cuda::CommandQueue<ProcessorCommands> only;
    return only;
}

template <class Work>
struct QueuedWork {
    Work work;
    void operator()() const { ProcessorCommands::hand_over(work); }
};
template <class Work>
QueuedWork(Work) -> QueuedWork<Work>;

struct QueuedSpace : mor::HostSpace {
    static void deallocate(void* p) noexcept {
        queue().flush_or_keep_failure();
        mor::HostSpace::deallocate(p);
    }
    static void zero(void* p, std::size_t bytes) {
        queue().add(QueuedWork{[=] { mor::HostSpace::zero(p, bytes); }});
    }
    static void copy_from_host(void* destination, const void* source, std::size_t bytes) {
        if (bytes > 0) {
            queue().upload(destination, source, bytes);
        }
    }
    static void copy_to_host(void* destination, const void* source, std::size_t bytes) {
        if (bytes > 0) {
            queue().flush();
            mor::HostSpace::copy_to_host(destination, source, bytes);
        }
    }
    [[nodiscard]] static mor::cuda::CommandCounts commands() { return queue().counts(); }
};

class QueuedSystem : public mor::cuda::ProcessorSystem<QueuedSpace> {
    using Index = mor::Index;
    using AtOnce = mor::cuda::ProcessorSystem<QueuedSpace>;

public:
    static constexpr std::string_view name = "cuda-queued";

    QueuedSystem() {
        static const bool begun = (queue().begin_graphs(), true);
        static_cast<void>(begun);
    }

    template <class Body>
    void for_each(Index n, const Body& body) const {
        queue().add(QueuedWork{[=] { AtOnce{}.for_each(n, body); }});
    }
    template <class Body>
    void for_each_team(Index n, const Body& body) const {
        for_each_team(n, 0, body);
    }
    template <class Body>
    void for_each_team(Index n, std::size_t shared_bytes, const Body& body) const {
        queue().add(QueuedWork{[=] { AtOnce{}.for_each_team(n, shared_bytes, body); }});
    }

    template <class Allocator, class Algorithm>
    auto run_algorithm(std::string_view call, Allocator& allocator,
                       const Algorithm& algorithm) const {
        queue().flush();
        return AtOnce::run_algorithm(call, allocator, algorithm);
    }

    void sort(const mor::cuda::RowsByToken<Space>& by_token,
              mor::View<std::byte, 1, Space> memory) const {
        queue().add(QueuedWork{[=] { AtOnce{}.sort(by_token, memory); }});
    }

    template <class T>
    void product(const mor::cuda::Factor<T, Space>& a, const mor::cuda::Factor<T, Space>& b,
                 mor::View<T, 2, Space> c, mor::Write write) const {
        queue().add(QueuedWork{[=] { AtOnce{}.product(a, b, c, write); }});
    }
};
static_assert(mor::cuda::System<QueuedSystem>);

}  // namespace backend_tests
