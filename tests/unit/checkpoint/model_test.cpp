// SPDX-License-Identifier: Apache-2.0
//
// Saving and loading models: what is written comes back bit for bit.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/backends/reference/reference.hpp>
#include <mor/checkpoint/any_model.hpp>

#include <doctest/doctest.h>
#include <unit/checkpoint/file_size_limit.hpp>
#include <unit/io/temp_directory.hpp>
#include <unit/train/token_text.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

namespace {

using namespace mor::test;
using mor::Index;
using mor::io::read_file;

template <class A, class T>
void check_round_trip(bool tied) {
    using B = mor::Reference<T>;
    const TempDirectory directory;
    const auto path = directory / "model";
    B backend;
    mor::ModelConfig config = small_config<A>();
    config.tie_embeddings = tied;
    config.rope_theta = 123.456;
    const mor::Model<A, B> model{backend, config, small_options<A>(), 7};
    mor::save_model(model, path);
    const auto loaded = mor::load_model<A>(backend, path);
    CHECK(weights_of(loaded) == weights_of(model));
    CHECK(loaded.num_parameters() == model.num_parameters());
    CHECK(mor::io::to_json(loaded.config()) == mor::io::to_json(config));

    const auto sequences = random_sequences({9, 4}, 29);
    const auto expected = run_forward(model, sequences, mor::Decision::causal);
    const auto actual = run_forward(loaded, sequences, mor::Decision::causal);
    CHECK(actual.logits == expected.logits);
    CHECK(actual.depths == expected.depths);

    mor::save_model(loaded, directory / "again");
    for (const char* file : {"config.json", "model.safetensors"}) {
        CHECK(read_file(directory / "again" / file) == read_file(path / file));
    }
}

}  // namespace

TEST_CASE_TEMPLATE("a model comes back bit for bit", A, MOR_ALL_ARCHITECTURES) {
    for (const bool tied : {true, false}) {
        check_round_trip<A, float>(tied);
        check_round_trip<A, double>(tied);
    }
}

TEST_CASE("a model of floats opens as one of doubles, and on another backend") {
    using A = mor::MoRExpert<>;
    const TempDirectory directory;
    mor::Reference<float> floats;
    const mor::Model<A, mor::Reference<float>> model{floats, small_config<A>(), {}, 7};
    mor::save_model(model, directory / "model");

    mor::Cpu<double> cpu{{.threads = 1}};
    const auto loaded = mor::load_model<A>(cpu, directory / "model");
    const auto weights = weights_of(model);
    CHECK(weights_of(loaded) == std::vector<double>(weights.begin(), weights.end()));
}

TEST_CASE("a model of doubles opens as one of floats, rounded") {
    using A = mor::Vanilla;
    const TempDirectory directory;
    mor::Reference<double> doubles;
    const mor::Model<A, mor::Reference<double>> model{doubles, small_config<A>(), {}, 7};
    mor::save_model(model, directory / "model");
    mor::Reference<float> floats;
    const auto loaded = mor::load_model<A>(floats, directory / "model");
    const auto weights = weights_of(model);
    std::vector<float> rounded;
    std::transform(weights.begin(), weights.end(), std::back_inserter(rounded),
                   [](double x) { return static_cast<float>(x); });
    CHECK(weights_of(loaded) == rounded);
}

TEST_CASE("every option comes back, not only its default") {
    using A = mor::MoRExpert<>;
    using B = mor::Reference<float>;
    const TempDirectory directory;
    B backend;
    mor::ArchitectureOptions<A> options;
    options.sharing.num_recursions = 2;
    options.router = {.alpha = 0.25, .causality = {.coefficient = 0.125, .threshold = 0.75}};
    options.schedule = {.capacities = {0.9, 0.3}, .warmup_steps = 17};
    mor::save_model(mor::Model<A, B>{backend, small_config<A>(), options}, directory / "model");
    const auto loaded = mor::load_model<A>(backend, directory / "model");
    CHECK(loaded.options().sharing.num_recursions == 2);
    CHECK(loaded.options().router.alpha == 0.25);
    CHECK(loaded.options().router.causality.coefficient == 0.125);
    CHECK(loaded.options().router.causality.threshold == 0.75);
    CHECK(loaded.options().schedule.capacities == std::vector<double>{0.9, 0.3});
    CHECK(loaded.options().schedule.warmup_steps == 17);
}

TEST_CASE("a tied head is one tensor in the file, and one storage after loading and training") {
    using A = mor::Vanilla;
    using B = mor::Reference<double>;
    const TempDirectory directory;
    B backend;
    mor::Model<A, B> model{backend, small_config<A>(), {}, 7};
    mor::save_model(model, directory / "model");
    const mor::io::SafetensorsFile file{directory / "model/model.safetensors"};
    CHECK(file.find("model.embed_tokens.weight") != nullptr);
    CHECK(file.find("lm_head.weight") == nullptr);

    auto loaded = mor::load_model<A>(backend, directory / "model");
    CHECK(loaded.embedding().is_tied());
    const auto text = random_text(200);
    const mor::TrainerOptions options{.batch = 2, .sequence = 10};
    mor::Trainer trainer{model, text, text.all(), options};
    mor::Trainer loaded_trainer{loaded, text, text.all(), options};
    for (int step = 0; step < 2; ++step) {
        trainer.step();
        loaded_trainer.step();
    }
    CHECK(weights_of(loaded) == weights_of(model));
}

TEST_CASE("saving replaces the model that was there, and nothing beside it") {
    using A = mor::Vanilla;
    using B = mor::Reference<float>;
    const TempDirectory directory;
    B backend;
    const mor::Model<A, B> first{backend, small_config<A>(), {}, 1};
    const mor::Model<A, B> second{backend, small_config<A>(), {}, 2};
    mor::save_model(first, directory / "model");
    mor::save_model(second, directory / "model");
    CHECK(weights_of(mor::load_model<A>(backend, directory / "model")) == weights_of(second));
    CHECK(directory.num_entries() == 1);
}

TEST_CASE("a full disk is an error that names the file, and the last model stays") {
    using A = mor::MoRExpert<>;
    using B = mor::Reference<float>;
    const TempDirectory directory;
    const auto path = directory / "model";
    B backend;
    const mor::Model<A, B> first{backend, small_config<A>(), {}, 1};
    const mor::Model<A, B> second{backend, small_config<A>(), {}, 2};
    mor::save_model(first, path);
    for (const rlim_t bytes : {0U, 100U, 5'000U, 20'000U}) {
        CAPTURE(bytes);
        std::string message;
        {
            const FileSizeLimit limit{bytes};
            message = message_of<mor::IoError>([&] { mor::save_model(second, path); });
        }
        CHECK(contains(message, "File too large"));
        CHECK(contains(message, path.string()));
        CHECK(contains(message, bytes < 5'000 ? "config.json" : "model.safetensors"));
        CHECK(weights_of(mor::load_model<A>(backend, path)) == weights_of(first));
        CHECK(directory.num_entries() == 1);
    }
    CHECK(contains(message_of<mor::IoError>([&] { mor::save_model(second, directory / "a/b"); }),
                   (directory / "a/b").string()));
}

TEST_CASE("load_any opens the architecture that the checkpoint names") {
    using B = mor::Reference<float>;
    using List =
        mor::ArchitectureList<mor::Vanilla, mor::Recursive<>, mor::MoRExpert<>, mor::MoRToken<>>;
    const TempDirectory directory;
    B backend;
    const mor::Model<mor::Vanilla, B> vanilla{backend, small_config<mor::Vanilla>(), {}, 1};
    const mor::Model<mor::Recursive<>, B> recursive{
        backend, small_config<mor::Recursive<>>(), {}, 2};
    const mor::Model<mor::MoRToken<>, B> token{backend, small_config<mor::MoRToken<>>(), {}, 3};
    mor::save_model(vanilla, directory / "vanilla");
    mor::save_model(recursive, directory / "recursive");
    mor::save_model(token, directory / "token");
    mor::save_model(
        mor::Model<mor::MoRToken<mor::Cycle>, B>{
            backend, small_config<mor::MoRToken<mor::Cycle>>(), {}, 4},
        directory / "other");

    const auto open = [&](const char* name) {
        return mor::load_any<List>(backend, directory / name);
    };
    CHECK(open("vanilla").index() == 0);
    CHECK(open("recursive").index() == 1);
    const auto any = open("token");
    REQUIRE(any.index() == 3);
    CHECK(weights_of(std::get<3>(any)) == weights_of(token));
    CHECK(std::visit([](const auto& model) { return model.num_parameters(); }, any) ==
          token.num_parameters());

    const auto message = message_of<mor::ConfigError>([&] { (void)open("other"); });
    CHECK(contains(message, (directory / "other/config.json").string()));
    CHECK(contains(message, R"("sharing":"cycle")"));
    CHECK(contains(message, "it was built with"));
    for (const char* router : {"fixed_depth", "expert_choice", "token_choice"}) {
        CHECK(contains(message, router));
    }
    CHECK(std::count(message.begin(), message.end(), '\n') == 4);
    CHECK(contains(message_of<mor::IoError>([&] { (void)open("gone"); }), "gone/config.json"));
    directory.write("other/config.json", "{}");
    CHECK(contains(message_of<mor::ConfigError>([&] { (void)open("other"); }),
                   "the key 'architecture' is missing"));
    directory.write("other/config.json", R"({"architecture": 5})");
    CHECK(contains(message_of<mor::ConfigError>([&] { (void)open("other"); }), "matches 5"));
}
