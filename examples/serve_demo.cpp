// SPDX-License-Identifier: Apache-2.0
//
// Serves prompts, one a line, from a file or the standard input with a saved byte model: all at
// once, by continuous depth-wise batching; a prompt that comes later joins. On a terminal the
// answers grow side by side, each byte in the colour of its recursion depth, above a status line;
// elsewhere each is printed when complete.
#include "depth_colours.hpp"
#include <mor/checkpoint.hpp>
#include <mor/mor.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <deque>
#include <fstream>
#include <iostream>
#include <iterator>
#include <mutex>
#include <string>
#include <sys/ioctl.h>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace {

using Architectures = mor::ArchitectureList<mor::Vanilla, mor::Recursive<>, mor::MoRExpert<>,
                                            mor::MoRToken<>, mor::MoRExpert<mor::Cycle>>;
using Clock = std::chrono::steady_clock;
using mor::Index;

constexpr Index max_batch = 16;
constexpr Index cache_bytes = Index{64} << 20;

/// What the engine did, smoothed over about 20 calls. It is told on the engine's thread.
class Status {
public:
    void add(const mor::EngineCall& call) {
        const std::lock_guard lock{mutex_};
        cache_bytes_ = call.cache_bytes;
        if (call.part == mor::EnginePart::shared_block) {
            for (double& rows : rows_) {
                rows *= 0.95;
            }
            for (const Index step : call.steps) {
                rows_.resize(std::max(rows_.size(), static_cast<std::size_t>(step) + 1), 0.0);
                rows_[static_cast<std::size_t>(step)] += 0.05;
            }
        }
    }

    /// With the tokens a second of the last two seconds; at the end, of all.
    [[nodiscard]] std::string line(Index running, Index tokens) {
        const std::lock_guard lock{mutex_};
        const auto now = Clock::now();
        if (running > 0) {
            history_.push_back({now, tokens});
            while (now - history_.front().time > std::chrono::seconds{2}) {
                history_.pop_front();
            }
        }
        const Moment since = running > 0 ? history_.front() : Moment{start_, 0};
        const std::chrono::duration<double> seconds = now - since.time;
        const double rate =
            static_cast<double>(tokens - since.tokens) / std::max(seconds.count(), 1e-3);
        std::string text = std::to_string(running) + " running, " + std::to_string(tokens) +
                           " tokens, " + std::to_string(std::lround(rate)) + "/s, cache " +
                           std::to_string(100 * cache_bytes_ / cache_bytes) + " %, rows by step";
        for (const double rows : rows_) {
            text += ' ';
            text += std::to_string(std::lround(100 * rows / max_batch));
            text += " %";
        }
        return text;
    }

private:
    struct Moment {
        Clock::time_point time;
        Index tokens = 0;
    };

    std::mutex mutex_;
    Clock::time_point start_ = Clock::now();
    std::deque<Moment> history_ = {{start_, 0}};
    Index cache_bytes_ = 0;
    std::vector<double> rows_ = {};  // of a call, by step
};

struct Answer {
    std::string prompt;
    mor::RequestHandle handle;
    std::vector<mor::ServedToken> tokens = {};
    bool is_printed = false;

    /// Takes what has arrived; throws what went wrong.
    void read() {
        while (const auto token = handle.try_next()) {
            tokens.push_back(*token);
        }
    }

    /// The same; an error waits until the answer is printed.
    void read_some() {
        try {
            read();
        } catch (const mor::Error&) {  // NOLINT(bugprone-empty-catch): the handle keeps it
        }
    }

    /// The prompt and the answer's end, at most `width` bytes wide.
    [[nodiscard]] std::string line(std::size_t width) const {
        std::string text = prompt.substr(0, width / 3);
        const std::size_t room = width - text.size();
        for (std::size_t i = tokens.size() - std::min(room, tokens.size()); i < tokens.size();
             ++i) {
            text += examples::colour_of(tokens[i].depth);
            text += examples::visible(tokens[i].token);
        }
        return text + std::string{examples::plain};
    }
};

/// The answers that are on their way, and the status below them, redrawn in place.
class Screen {
public:
    void clear() {
        if (lines_ > 0) {
            std::printf("\033[%zuA\r\033[J", lines_);
        }
        lines_ = 0;
    }
    void draw(const std::vector<Answer>& answers, const std::string& status) {
        winsize size{};
        ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
        const std::size_t width = size.ws_col > 20 ? size.ws_col - 1U : 79;
        const std::size_t height = size.ws_row > 4 ? size.ws_row - 2U : 20;
        for (const Answer& answer : answers) {
            if (!answer.is_printed && lines_ < height) {
                std::printf("%s\n", answer.line(width).c_str());
                ++lines_;
            }
        }
        std::printf("%s\n", status.substr(0, width).c_str());
        ++lines_;
        std::fflush(stdout);
    }

private:
    std::size_t lines_ = 0;
};

void print(Answer& answer) {
    try {
        answer.read();
        std::printf("> %s\n", answer.prompt.c_str());
        examples::print_depths(answer.tokens);
    } catch (const mor::Error& error) {
        std::printf("> %s\n    refused: %s\n", answer.prompt.c_str(), error.what());
    }
    answer.is_printed = true;
}

/// Answers to prompts as they come, from the thread that reads those.
class Arrivals {
public:
    void add(Answer answer) {
        const std::lock_guard lock{mutex_};
        arrived_.push_back(std::move(answer));
    }
    void end() {
        const std::lock_guard lock{mutex_};
        is_over_ = true;
    }
    /// Appends what has arrived. Returns whether more may come.
    bool take(std::vector<Answer>& answers) {
        const std::lock_guard lock{mutex_};
        std::move(arrived_.begin(), arrived_.end(), std::back_inserter(answers));
        arrived_.clear();
        return !is_over_;
    }

private:
    std::mutex mutex_;
    std::vector<Answer> arrived_;
    bool is_over_ = false;
};

/// Prints answers as they finish, until all have.
void watch(Arrivals& arrivals, Status& status) {
    Screen screen;
    std::vector<Answer> answers;
    Index running = 0;
    Index tokens = 0;
    for (bool more = true; more || running > 0;) {
        std::this_thread::sleep_for(std::chrono::milliseconds{50});
        const Index before = std::ssize(answers);
        more = arrivals.take(answers);
        running += std::ssize(answers) - before;
        screen.clear();
        tokens = 0;
        for (Answer& answer : answers) {
            if (!answer.is_printed && answer.handle.finish() != mor::Finish::not_yet) {
                print(answer);
                --running;
            } else if (!answer.is_printed) {
                answer.read_some();
            }
            tokens += std::ssize(answer.tokens);
        }
        if (examples::is_terminal() && running > 0) {
            screen.draw(answers, status.line(running, tokens));
        }
    }
    if (!examples::is_terminal()) {
        std::printf("%s\n", status.line(running, tokens).c_str());
    }
}

template <class A, class Backend>
void serve(const mor::Model<A, Backend>& model, std::istream& prompts) {
    mor::check<mor::ConfigError>(model.config().vocab_size <= 256, "a vocabulary of ",
                                 model.config().vocab_size, ", but this shows byte models only");
    Status status;
    mor::Engine engine{model,
                       {.max_batch = max_batch,
                        .cache_bytes = cache_bytes,
                        .on_call = [&](const mor::EngineCall& call) { status.add(call); }}};
    const std::jthread server{[&](const std::stop_token& stop) { engine.serve(stop); }};
    Arrivals arrivals;
    const std::jthread reader{[&] {
        mor::RequestOptions request{.max_new_tokens = 200,
                                    .sampling = {.temperature = 0.8, .top_p = 0.95}};
        for (std::string prompt; std::getline(prompts, prompt); ++request.sampling.seed) {
            const auto handle = engine.submit(mor::io::to_tokens(prompt), request);
            arrivals.add({std::move(prompt), handle});
        }
        arrivals.end();
    }};
    watch(arrivals, status);
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 2 && argc != 3) {
        std::fprintf(stderr, "usage: serve_demo MODEL_DIRECTORY [PROMPTS]\n");
        return 2;
    }
    std::ifstream file;
    if (argc == 3) {
        file.open(argv[2]);
        mor::check<mor::IoError>(file.is_open(), argv[2], ": cannot be read");
    }
    mor::Cpu<float> cpu;
    const auto any = mor::load_any<Architectures>(cpu, argv[1]);
    std::visit([&](const auto& model) { serve(model, argc == 3 ? file : std::cin); }, any);
} catch (const mor::Error& error) {
    std::fprintf(stderr, "serve_demo: %s\n", error.what());
    return 1;
}
