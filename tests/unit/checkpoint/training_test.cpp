// SPDX-License-Identifier: Apache-2.0
//
// A resumed run is the run that was never interrupted.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/checkpoint/training.hpp>

#include <doctest/doctest.h>
#include <unit/checkpoint/file_size_limit.hpp>
#include <unit/io/temp_directory.hpp>
#include <unit/train/token_text.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace mor::test;
using mor::ConfigError;
using mor::Index;
using mor::IoError;
using mor::TrainerOptions;
using mor::io::read_file;

using Cpu = mor::Cpu<float>;

TrainerOptions ten_steps() {
    return {.steps = 10,
            .batch = 2,
            .sequence = 12,
            .micro_batches = 2,
            .seed = 6,
            .schedule = {.warmup_steps = 3, .cooldown_steps = 4}};
}

/// Everything that a process has of a run; a second one shares nothing with it.
template <class A>
struct Run {
    Cpu cpu{{.threads = 2}};
    TokenText text = random_text(500);
    mor::Model<A, Cpu> model;
    mor::Trainer<A, Cpu, TokenText> trainer;

    explicit Run(const TrainerOptions& options = ten_steps(),
                 const mor::ModelConfig& config = small_config<A>(),
                 const mor::ArchitectureOptions<A>& architecture = small_options<A>(),
                 std::uint64_t seed = 3)
        : model{cpu, config, architecture, seed}, trainer{model, text, text.all(), options} {}

    void train(Index steps) {
        for (Index i = 0; i < steps; ++i) {
            trainer.step();
        }
    }
};

using A = mor::MoRExpert<>;

/// A run of three steps in `directory`/run.
struct Saved {
    TempDirectory directory;
    std::filesystem::path path = directory / "run";

    Saved() {
        Run<A> run;
        run.train(3);
        mor::save_training(run.trainer, path);
    }

    template <class E, class R>
    [[nodiscard]] std::string error_of(R& run) const {
        return message_of<E>([&] { mor::resume_training(run.trainer, path); });
    }
};

}  // namespace

TEST_CASE_TEMPLATE("ten steps are five, a checkpoint, and five in another process", Architecture,
                   mor::Vanilla, mor::Recursive<mor::Cycle>, mor::MoRExpert<>, mor::MoRToken<>) {
    const TempDirectory directory;
    Run<Architecture> whole;
    whole.train(10);
    {
        Run<Architecture> first;
        first.train(5);
        mor::save_training(first.trainer, directory / "run");
        first.train(1);  // what a checkpoint does not know is lost
    }
    // Other fresh weights: all of them must come from the file.
    Run<Architecture> second{ten_steps(), small_config<Architecture>(),
                             small_options<Architecture>(), 99};
    mor::resume_training(second.trainer, directory / "run");
    CHECK(second.trainer.completed_steps() == 5);
    CHECK(second.trainer.optimizer().updates() == 5);
    second.train(5);
    CHECK(weights_of(second.model) == weights_of(whole.model));
    CHECK(moments_of(second.trainer.optimizer()) == moments_of(whole.trainer.optimizer()));

    mor::save_training(whole.trainer, directory / "whole");
    mor::save_training(second.trainer, directory / "second");
    for (const char* file :
         {"config.json", "model.safetensors", "optimizer.safetensors", "training.json"}) {
        CAPTURE(file);
        CHECK(read_file(directory / "whole" / file) == read_file(directory / "second" / file));
    }
}

TEST_CASE("a checkpoint of a run is a model, too") {
    Saved saved;
    Run<A> run;
    run.train(3);
    CHECK(weights_of(mor::load_model<A>(run.cpu, saved.path)) == weights_of(run.model));
}

TEST_CASE("a run with other options is refused, and what differs is named") {
    Saved saved;
    const auto error = [&](const std::function<void(TrainerOptions&)>& change) {
        TrainerOptions options = ten_steps();
        change(options);
        Run<A> run{options};
        const auto message = saved.error_of<ConfigError>(run);
        CHECK(contains(message, (saved.path / "training.json").string()));
        return message;
    };
    CHECK(contains(error([](auto& o) { o.steps = 20; }), "options.steps is 10, this run has 20"));
    CHECK(contains(error([](auto& o) { o.seed = 7; }), "options.seed is 6, this run has 7"));
    CHECK(contains(error([](auto& o) { o.optimizer.beta2 = 0.5; }),
                   "options.optimizer.beta2 is 0.95, this run has 0.5"));
    CHECK(contains(error([](auto& o) { o.schedule.shape = mor::ScheduleShape::cosine; }),
                   "options.schedule.shape is \"trapezoid\", this run has \"cosine\""));
}

TEST_CASE("a run of another model is refused, and what differs is named") {
    Saved saved;
    const std::string config_file = (saved.path / "config.json").string();
    mor::ModelConfig config = small_config<A>();
    config.rope_theta = 5'000;
    Run<A> other_size{ten_steps(), config};
    CHECK(saved.error_of<ConfigError>(other_size) ==
          config_file + ": model.rope_theta is 10000.0, this run has 5000.0");

    auto options = small_options<A>();
    options.schedule.warmup_steps = 9;
    Run<A> other_schedule{ten_steps(), small_config<A>(), options};
    CHECK(saved.error_of<ConfigError>(other_schedule) ==
          config_file + ": schedule.warmup_steps is 0, this run has 9");

    Run<mor::MoRToken<>> other_router;
    CHECK(contains(saved.error_of<ConfigError>(other_router),
                   "router is \"expert_choice\", this program was built with \"token_choice\""));
}

TEST_CASE("files of a run that are missing or broken are named") {
    Saved saved;
    Run<A> run;
    const auto error_with = [&]<class E>(E /*tag*/, const char* file, const std::string& text) {
        const std::string sound = read_file(saved.path / file);
        saved.directory.write(std::string{"run/"} + file, text);
        const auto message = saved.error_of<E>(run);
        CHECK(contains(message, (saved.path / file).string()));
        saved.directory.write(std::string{"run/"} + file, sound);
        return message;
    };
    const IoError io{""};
    const ConfigError config{""};
    CHECK(contains(error_with(io, "training.json", "{"), "byte"));
    CHECK(contains(error_with(config, "training.json", "{}"), "'data' is missing"));
    CHECK(contains(error_with(config, "training.json", "[]"), "expected an object"));
    CHECK(contains(error_with(config, "training.json", R"({"complete_steps": 1})"),
                   "did you mean 'completed_steps'?"));
    CHECK(contains(error_with(config, "training.json", R"({"data": 5, "completed_steps": 1})"),
                   "data is 5, this run has"));
    const std::string training = read_file(saved.path / "training.json");
    for (const char* steps : {"11", "-1", "18446744073709551615", "2.5", "\"3\"", "null"}) {
        CAPTURE(steps);
        std::string text = training;
        const std::string now = "\"completed_steps\": 3";
        text.replace(text.find(now), now.size(), std::string{"\"completed_steps\": "} + steps);
        CHECK(contains(error_with(config, "training.json", text),
                       std::string{"completed_steps is "} + steps));
    }
    CHECK(contains(error_with(io, "optimizer.safetensors", "short"), "too short"));
    CHECK(contains(
        error_with(io, "optimizer.safetensors", read_file(saved.path / "model.safetensors")),
        "tensor 'm.model.embed_tokens.weight' is missing"));
    CHECK(contains(error_with(io, "model.safetensors", ""), "too short"));

    CHECK_NOTHROW(mor::resume_training(run.trainer, saved.path));
    for (const char* file :
         {"optimizer.safetensors", "model.safetensors", "training.json", "config.json"}) {
        std::filesystem::remove(saved.path / file);
        CHECK(contains(saved.error_of<IoError>(run), (saved.path / file).string()));
    }
    CHECK_THROWS_AS(mor::resume_training(run.trainer, saved.directory / "gone"), IoError);
}

TEST_CASE("the newest checkpoints are kept, the others removed") {
    const TempDirectory directory;
    const auto root = directory / "runs/one";
    CHECK_FALSE(mor::latest_checkpoint(root).has_value());
    Run<A> run;
    for (Index step = 1; step <= 10; ++step) {
        run.train(1);
        mor::save_checkpoint(run.trainer, root);
        CHECK(mor::latest_checkpoint(root) == root / ("step-" + std::to_string(step)));
        CHECK(std::distance(std::filesystem::directory_iterator{root}, {}) ==
              std::min<Index>(step, 2));
    }
    // Step 10 is newer than step 9, though its name sorts before it.
    CHECK(std::filesystem::exists(root / "step-9"));
    mor::save_checkpoint(run.trainer, root, 1);  // the same step again
    CHECK_FALSE(std::filesystem::exists(root / "step-9"));
    Run<A> resumed;
    mor::resume_training(resumed.trainer, *mor::latest_checkpoint(root));
    CHECK(resumed.trainer.completed_steps() == 10);
}

TEST_CASE("what is not a checkpoint is neither found nor removed") {
    const TempDirectory directory;
    for (const char* name :
         {"step-", "step-x", "step-7.partial-123", "step-8.replaced-9", "steps-9", "other"}) {
        std::filesystem::create_directory(directory / name);
    }
    CHECK_FALSE(mor::latest_checkpoint(directory.path()).has_value());
    Run<A> run;
    run.train(1);
    mor::save_checkpoint(run.trainer, directory.path(), 1);
    CHECK(directory.num_entries() == 7);
    CHECK(mor::latest_checkpoint(directory.path()) == directory / "step-1");
}

TEST_CASE("a checkpoint that another run left is no place for this one") {
    const TempDirectory directory;
    std::filesystem::create_directory(directory / "step-900");
    Run<A> run;
    run.train(1);
    const auto message =
        message_of<ConfigError>([&] { mor::save_checkpoint(run.trainer, directory.path()); });
    CHECK(contains(message, directory.path().string()));
    CHECK(contains(message, "step 900, this run is at step 1"));
    CHECK(directory.num_entries() == 1);
}

TEST_CASE("keeping no checkpoint at all, or a root that is a file, is refused") {
    const TempDirectory directory;
    Run<A> run;
    for (const Index keep : {0, -1}) {
        CHECK(contains(message_of<ConfigError>(
                           [&] { mor::save_checkpoint(run.trainer, directory.path(), keep); }),
                       "keep is " + std::to_string(keep)));
    }
    CHECK(directory.num_entries() == 0);
    const auto file = directory.write("file", "");
    CHECK(contains(message_of<IoError>([&] { mor::save_checkpoint(run.trainer, file); }),
                   file.string()));
    CHECK(contains(message_of<IoError>([&] { (void)mor::latest_checkpoint(file); }),
                   file.string() + ": cannot be listed"));
}

TEST_CASE("a full disk leaves the last checkpoint, and the run goes on") {
    const TempDirectory directory;
    Run<A> run;
    run.train(2);
    mor::save_checkpoint(run.trainer, directory.path());
    const auto good = weights_of(run.model);
    run.train(2);
    for (const rlim_t bytes : {50U, 10'000U, 30'000U, 60'000U}) {
        CAPTURE(bytes);
        std::string message;
        {
            const FileSizeLimit limit{bytes};
            message = message_of<IoError>(
                [&] { mor::save_checkpoint(run.trainer, directory.path(), 1); });
        }
        CHECK(contains(message, "File too large"));
        CHECK(contains(message, (directory / "step-4").string()));
        CHECK(directory.num_entries() == 1);
    }
    CHECK(mor::latest_checkpoint(directory.path()) == directory / "step-2");
    Run<A> resumed;
    mor::resume_training(resumed.trainer, directory / "step-2");
    CHECK(weights_of(resumed.model) == good);

    run.train(6);
    mor::save_checkpoint(run.trainer, directory.path());
    resumed.train(8);
    CHECK(weights_of(resumed.model) == weights_of(run.model));
}
