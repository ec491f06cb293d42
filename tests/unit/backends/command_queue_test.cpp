// SPDX-License-Identifier: Apache-2.0
//
// The command queue of the CUDA backend, on a device that writes down what it does.
#include <mor/backends/cuda/command_queue.hpp>
#include <mor/core/error.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using mor::Index;

/// What the device did, in its order.
std::vector<std::string>& done() {
    static std::vector<std::string> events;
    return events;
}
std::vector<std::string> take_done() { return std::exchange(done(), {}); }

struct WritesDown {
    static inline std::vector<std::function<void()>>* recording = nullptr;
    static inline int num_graphs = 0;
    static inline int num_stagings = 0;  // ever taken
    static inline bool can_record = true;

    static void hand_over(const std::function<void()>& work) {
        if (recording != nullptr) {
            recording->push_back(work);
        } else {
            work();
        }
    }
    static void* allocate_staging(std::size_t bytes) {
        ++num_stagings;
        return new char[bytes];
    }
    static void free_staging(void* p) noexcept { delete[] static_cast<char*>(p); }
    static void upload(void* destination, const void* staged, std::size_t bytes) {
        hand_over([=] { std::memcpy(destination, staged, bytes); });
    }
    struct Event {
        void record() {}
        void wait() {}
    };
    class Graph {
    public:
        explicit Graph(const std::function<void()>& hand_over) {
            mor::check<mor::Error>(can_record, "mor: no memory for a graph");
            ++num_graphs;
            recording = &work_;
            hand_over();
            recording = nullptr;
        }
        Graph(const Graph&) = delete;
        Graph& operator=(const Graph&) = delete;
        ~Graph() { --num_graphs; }
        void launch() {
            done().emplace_back("graph");
            for (const auto& work : work_) {
                work();
            }
        }

    private:
        std::vector<std::function<void()>> work_;
    };
};
using Queue = mor::cuda::CommandQueue<WritesDown>;

// Bytes that are nobody's follow the letter, where the compiler can clear them.
using Letter = std::conditional_t<mor::cuda::Commands::clears_padding, char, Index>;

/// Writes down a number that is at an address when it runs.
struct Tell {
    const int* number;
    Letter letter = 'a';

    void operator()() const {
        WritesDown::hand_over([tell = *this] {
            std::string& text = done().emplace_back(1, static_cast<char>(tell.letter));
            text += std::to_string(*tell.number);
        });
    }
};
struct Fail {
    void operator()() const { throw mor::Error{"mor: no such kernel"}; }
};

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("without graphs commands are handed over at once") {
    Queue queue;
    int number = 1;
    queue.add(Tell{&number});
    CHECK(take_done() == Texts{"a1"});
    const int two = 2;
    queue.upload(&number, &two, sizeof(int));
    CHECK(number == 2);
    CHECK(queue.counts().lists == 0);
}

TEST_CASE("with graphs work waits for a flush, and reads uploads as they were") {
    Queue queue;
    queue.begin_graphs();
    int number = 1;
    int source = 5;
    queue.add(Tell{&number});
    queue.upload(&number, &source, sizeof(int));
    queue.add(Tell{&number, 'b'});
    source = 6;
    CHECK(take_done().empty());
    CHECK(number == 1);
    queue.flush();
    CHECK(take_done() == Texts{"a1", "b5"});
    queue.flush();
    CHECK(take_done().empty());
    queue.end_graphs();
}

TEST_CASE("a list that comes a second time becomes a graph, with uploads of its own each time") {
    Queue queue;
    queue.begin_graphs();
    int number = 0;
    const auto pass = [&](int value, char letter) {
        queue.upload(&number, &value, sizeof(int));
        queue.add(Tell{&number, letter});
        queue.flush();
        return take_done();
    };
    CHECK(pass(1, 'a') == Texts{"a1"});
    CHECK(pass(2, 'a') == Texts{"graph", "a2"});
    CHECK(pass(3, 'a') == Texts{"graph", "a3"});
    CHECK(pass(4, 'b') == Texts{"b4"});  // another argument
    CHECK(pass(5, 'a') == Texts{"graph", "a5"});
    CHECK(queue.counts().lists == 2);
    CHECK(queue.counts().recorded == 1);
    CHECK(queue.counts().launches == 3);
    queue.forget();
    CHECK(pass(6, 'a') == Texts{"a6"});
    queue.end_graphs();
}

TEST_CASE("uploads of another size are another list") {
    Queue queue;
    queue.begin_graphs();
    std::vector<int> numbers(8, 0);
    const std::vector<int> source{1, 2, 3, 4, 5, 6, 7, 8};
    for (const std::size_t count : {2U, 2U, 6U, 6U, 2U}) {
        numbers.assign(8, 0);
        queue.upload(numbers.data(), source.data(), count * sizeof(int));
        queue.flush();
        CHECK(numbers[count - 1] == source[count - 1]);
        CHECK(numbers[count] == 0);
    }
    CHECK(queue.counts().recorded == 2);
    queue.end_graphs();
}

TEST_CASE("of many graphs those used last are kept") {
    Queue queue;
    queue.begin_graphs();
    std::vector<int> numbers(70);
    for (int round = 0; round < 2; ++round) {
        for (const int& number : numbers) {
            queue.add(Tell{&number});
            queue.flush();
            queue.add(Tell{numbers.data()});
            queue.flush();
        }
    }
    CHECK(WritesDown::num_graphs == 64);
    const Index recorded = queue.counts().recorded;
    queue.add(Tell{numbers.data()});
    queue.flush();
    CHECK(queue.counts().recorded == recorded);
    queue.add(Tell{&numbers[1]});  // made long ago, and forgotten
    queue.flush();
    CHECK(queue.counts().recorded == recorded + 1);
    queue.end_graphs();
    take_done();
}

TEST_CASE("what fails is reported once, and what comes later works") {
    Queue queue;
    queue.begin_graphs();
    int number = 1;
    queue.add(Fail{});
    queue.add(Tell{&number});
    CHECK_THROWS_WITH_AS(queue.flush(), "mor: no such kernel", mor::Error);
    CHECK(take_done().empty());
    queue.flush();
    queue.add(Tell{&number});
    queue.flush();
    CHECK(take_done() == Texts{"a1"});

    queue.add(Fail{});
    queue.flush_or_keep_failure();
    CHECK_THROWS_AS(queue.add(Tell{&number}), mor::Error);
    queue.add(Tell{&number});
    queue.flush();
    CHECK(take_done() == Texts{"graph", "a1"});
    queue.end_graphs();
}

TEST_CASE("what cannot be recorded is handed over command by command") {
    Queue queue;
    queue.begin_graphs();
    int number = 1;
    WritesDown::can_record = false;
    for (int round = 0; round < 3; ++round) {
        queue.add(Tell{&number});
        queue.flush();
        CHECK(take_done() == Texts{"a1"});
    }
    WritesDown::can_record = true;
    CHECK(queue.counts().recorded == 0);
    queue.end_graphs();
}

TEST_CASE("memory for uploads is taken once") {
    Queue queue;
    std::vector<char> from(200'000, 'x');
    std::vector<char> to(from.size());
    queue.upload(to.data(), from.data(), 10);
    const int before = WritesDown::num_stagings;
    for (std::size_t bytes = 1; bytes < from.size(); bytes += 3'001) {
        from[bytes - 1] = static_cast<char>('a' + bytes % 26);
        queue.upload(to.data(), from.data(), bytes);
        CHECK(to[bytes - 1] == from[bytes - 1]);
    }
    CHECK(WritesDown::num_stagings == before);
}

TEST_CASE("a list with more uploads than the memory for them is handed over") {
    Queue queue;
    queue.begin_graphs();
    const std::vector<char> from(900'000, 'x');
    std::vector<char> to(3 * from.size());
    for (int round = 0; round < 3; ++round) {
        to.assign(to.size(), 'y');
        for (std::size_t i = 0; i < 3; ++i) {
            queue.upload(to.data() + i * from.size(), from.data(), from.size());
        }
        queue.flush();
        CHECK(std::count(to.begin(), to.end(), 'x') == std::ssize(to));
    }
    queue.end_graphs();
    take_done();
}

TEST_CASE("threads may share a queue") {
    Queue queue;
    queue.begin_graphs();
    constexpr int num_threads = 4;
    constexpr int num_rounds = 200;
    std::vector<std::vector<int>> numbers(num_threads, std::vector<int>(16, 0));
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t < num_threads; ++t) {
            threads.emplace_back([&, t] {
                for (int round = 1; round <= num_rounds; ++round) {
                    for (int& number : numbers[static_cast<std::size_t>(t)]) {
                        queue.upload(&number, &round, sizeof(int));
                    }
                    queue.flush();
                }
            });
        }
    }
    queue.end_graphs();
    CHECK(numbers == std::vector<std::vector<int>>(num_threads, std::vector<int>(16, num_rounds)));
}
