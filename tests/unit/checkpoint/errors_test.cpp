// SPDX-License-Identifier: Apache-2.0
//
// Whatever is wrong with a checkpoint, one error names the file and the cause.
#include <mor/backends/reference/reference.hpp>
#include <mor/checkpoint/model.hpp>

#include <doctest/doctest.h>
#include <unit/io/temp_directory.hpp>
#include <unit/train/token_text.hpp>

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace mor::test;
using mor::ConfigError;
using mor::Index;
using mor::IoError;
using mor::io::read_file;

using B = mor::Reference<float>;
using A = mor::MoRExpert<>;
using Json = nlohmann::json;

/// A sound checkpoint to break.
struct Fixture {
    TempDirectory directory;
    B backend;
    mor::Model<A, B> model{backend, small_config<A>(), {}, 7};
    std::filesystem::path config = directory / "model/config.json";
    std::filesystem::path weights = directory / "model/model.safetensors";

    Fixture() { mor::save_model(model, directory / "model"); }

    /// The message of the E that loading throws; it must begin with the file's name.
    template <class E>
    [[nodiscard]] std::string error_of(const std::filesystem::path& file) {
        const std::string message =
            message_of<E>([&] { (void)mor::load_model<A>(backend, directory / "model"); });
        CAPTURE(message);
        CHECK(message.starts_with(file.string() + ":"));
        return message;
    }

    /// The same after changing config.json.
    [[nodiscard]] std::string config_error(const std::function<void(Json&)>& change) {
        Json json = Json::parse(read_file(config));
        change(json);
        directory.write("model/config.json", json.dump());
        return error_of<ConfigError>(config);
    }

    /// Writes the tensors with one left out, renamed or changed, and returns the error.
    [[nodiscard]] std::string weights_error(
        const std::function<void(std::vector<mor::io::TensorToWrite>&)>& change) {
        {
            const std::string bytes = read_file(weights);
            const auto copy = directory.write("copy", bytes);
            const mor::io::SafetensorsFile file{copy};
            std::vector<mor::io::TensorToWrite> tensors;
            for (const auto& [name, info] : file.tensors()) {
                tensors.push_back({name, info.dtype, info.shape, info.bytes});
            }
            change(tensors);
            mor::io::write_safetensors(weights, tensors);
        }
        return error_of<IoError>(weights);
    }
};

mor::io::TensorToWrite& named(std::vector<mor::io::TensorToWrite>& tensors,
                              const std::string& name) {
    for (auto& tensor : tensors) {
        if (tensor.name == name) {
            return tensor;
        }
    }
    FAIL("no tensor ", name);
    return tensors.front();
}

}  // namespace

TEST_CASE("a directory or a file that is missing is named") {
    Fixture f;
    CHECK_NOTHROW((void)mor::load_model<A>(f.backend, f.directory / "model"));
    CHECK(message_of<IoError>([&] { (void)mor::load_model<A>(f.backend, f.directory / "gone"); }) ==
          (f.directory / "gone/config.json").string() +
              ": cannot be opened: No such file or directory");
    std::filesystem::remove(f.weights);
    CHECK(contains(f.error_of<IoError>(f.weights), "No such file"));
    std::filesystem::remove(f.config);
    CHECK(contains(f.error_of<IoError>(f.config), "No such file"));
}

TEST_CASE("a config.json that is cut off or not JSON is named with the place") {
    Fixture f;
    const std::string text = read_file(f.config);
    for (std::size_t length = 0; length + 2 < text.size(); length += 13) {
        CAPTURE(length);
        f.directory.write("model/config.json", text.substr(0, length));
        CHECK(contains(f.error_of<IoError>(f.config), "byte"));
    }
    f.directory.write("model/config.json", "hello");
    CHECK(contains(f.error_of<IoError>(f.config), "byte 1"));
    f.directory.write("model/config.json", "[1, 2]");
    CHECK(contains(f.error_of<ConfigError>(f.config), "expected an object"));
}

TEST_CASE("a key that nobody knows is named with the nearest one") {
    Fixture f;
    const std::string text = read_file(f.config);
    const auto error = [&](const std::function<void(Json&)>& change) {
        f.directory.write("model/config.json", text);
        return f.config_error(change);
    };
    auto message = error([](Json& json) { json["modle"] = 1; });
    CHECK(contains(message, "'modle'"));
    CHECK(contains(message, "'model'"));
    message = error([](Json& json) { json["model"]["hiden_size"] = 16; });
    CHECK(contains(message, "model: unknown key 'hiden_size'"));
    CHECK(contains(message, "'hidden_size'"));
    message = error([](Json& json) { json["router"]["alhpa"] = 1; });
    CHECK(contains(message, "router: unknown key 'alhpa'"));
    CHECK(contains(message, "'alpha'"));
    message = error([](Json& json) { json["architecture"]["shring"] = "cycle"; });
    CHECK(contains(message, "'shring'"));
    CHECK(contains(message, "'sharing'"));
    message = error([](Json& json) { json["cache"]["size"] = 1; });
    CHECK(contains(message, "cache: unknown key 'size'"));
}

TEST_CASE("a value of the wrong kind is named") {
    Fixture f;
    const std::string text = read_file(f.config);
    const auto error = [&](const std::function<void(Json&)>& change) {
        f.directory.write("model/config.json", text);
        return f.config_error(change);
    };
    auto message = error([](Json& json) { json["model"]["num_layers"] = "eight"; });
    CHECK(contains(message, "model.num_layers: expected an integer, found \"eight\""));
    CHECK(contains(error([](Json& json) { json["model"]["num_layers"] = 8.5; }), "num_layers"));
    CHECK(contains(error([](Json& json) { json["model"]["num_layers"] = nullptr; }), "num_layers"));
    CHECK(contains(error([](Json& json) { json["model"]["tie_embeddings"] = 1; }),
                   "tie_embeddings: expected true or false"));
    CHECK(contains(error([](Json& json) { json["router"]["alpha"] = "big"; }), "router.alpha"));
    CHECK(contains(error([](Json& json) { json["schedule"]["capacities"] = 1; }),
                   "schedule.capacities: expected an array"));
    CHECK(contains(error([](Json& json) { json["model"] = 1; }), "model: expected an object"));
    CHECK(contains(error([](Json& json) { json["architecture"] = "mor"; }),
                   "architecture: expected an object"));
    CHECK(contains(error([](Json& json) { json["architecture"]["router"] = 3; }), "router is 3"));
}

TEST_CASE("a section that is missing is named") {
    Fixture f;
    const std::string text = read_file(f.config);
    for (const std::string key :
         {"format", "architecture", "model", "sharing", "router", "schedule", "cache"}) {
        f.directory.write("model/config.json", text);
        CHECK(contains(f.config_error([&](Json& json) { json.erase(key); }),
                       "the key '" + key + "' is missing"));
    }
    f.directory.write("model/config.json", text);
    CHECK(contains(f.config_error([](Json& json) { json["architecture"].erase("block"); }),
                   "the key 'block' is missing"));
}

TEST_CASE("another format or architecture is named with what was expected") {
    Fixture f;
    const std::string text = read_file(f.config);
    auto message = f.config_error([](Json& json) { json["format"] = "mor-9"; });
    CHECK(contains(message, "format is \"mor-9\", expected \"mor-1\""));
    f.directory.write("model/config.json", text);
    message = f.config_error([](Json& json) { json["architecture"]["router"] = "token_choice"; });
    CHECK(contains(message,
                   "router is \"token_choice\", this program was built with \"expert_choice\""));
}

TEST_CASE("a checkpoint with an auxiliary router is refused by a model without one") {
    Fixture f;
    const mor::Model<ExpertAuxiliary, B> other{f.backend, small_config<ExpertAuxiliary>(), {}, 7};
    mor::save_model(other, f.directory / "model");
    const std::string message = f.error_of<ConfigError>(f.config);
    CHECK(contains(message, "this program was built with \"expert_choice\""));
}

TEST_CASE("impossible sizes and options are errors that name the file") {
    Fixture f;
    const std::string text = read_file(f.config);
    const auto error = [&](const std::function<void(Json&)>& change) {
        f.directory.write("model/config.json", text);
        return f.config_error(change);
    };
    for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_layers",
                            "num_heads", "num_kv_heads", "head_dim", "max_positions"}) {
        for (const Index value : {Index{0}, Index{-3}, Index{1} << 40, Index{1} << 62}) {
            CAPTURE(value);
            CHECK(contains(error([&](Json& json) { json["model"][key] = value; }),
                           std::string{key} + " is " + std::to_string(value)));
        }
    }
    CHECK(contains(error([](Json& json) { json["model"]["num_kv_heads"] = 3; }), "num_kv_heads 3"));
    CHECK(contains(error([](Json& json) { json["model"]["num_layers"] = 9; }), "8 and 11"));
    CHECK(contains(error([](Json& json) { json["model"]["rope_theta"] = -1; }), "rope_theta"));
    CHECK(contains(error([](Json& json) { json["model"]["rope_theta"] = 0; }), "rope_theta"));
    CHECK(contains(error([](Json& json) { json["router"]["alpha"] = -1; }), "alpha is -1"));
    CHECK(contains(error([](Json& json) { json["sharing"]["num_recursions"] = 0; }),
                   "num_recursions is 0"));
    CHECK(contains(error([](Json& json) {
                       json["schedule"]["capacities"] = {0.2, 0.9, 0.1};
                   }),
                   "0.9 after 0.2"));
    CHECK(contains(error([](Json& json) {
                       json["schedule"]["capacities"] = {0.5, 0.25};
                   }),
                   "2 capacities for 3 recursion steps"));
}

TEST_CASE("sizes that do not fit the weights name the tensor and both shapes") {
    Fixture f;
    Json json = Json::parse(read_file(f.config));
    json["model"]["vocab_size"] = 30;
    f.directory.write("model/config.json", json.dump());
    CHECK(contains(f.error_of<IoError>(f.weights),
                   "tensor 'model.embed_tokens.weight' is [29, 16], the model expects [30, 16]"));
}

TEST_CASE("a tensor that is missing is named with the nearest one") {
    Fixture f;
    const auto message = f.weights_error(
        [](auto& tensors) { named(tensors, "model.norm.weight").name = "model.norm.wieght"; });
    CHECK(contains(message, "tensor 'model.norm.weight' is missing"));
    CHECK(contains(message, "'model.norm.wieght'"));
}

TEST_CASE("a tensor that nobody expects is named") {
    Fixture f;
    CHECK(contains(f.weights_error([](auto& tensors) {
        auto extra = named(tensors, "model.norm.weight");
        extra.name = "lm_head.weight";
        tensors.push_back(extra);
    }),
                   "tensor 'lm_head.weight' does not belong to this model"));
}

TEST_CASE("a tensor of another shape or dtype is named") {
    SUBCASE("shape") {
        Fixture f;
        CHECK(contains(f.weights_error([](auto& tensors) {
            named(tensors, "model.norm.weight").shape = {4, 4};
        }),
                       "tensor 'model.norm.weight' is [4, 4], the model expects [16]"));
    }
    SUBCASE("dtype") {
        Fixture f;
        static const std::vector<std::int64_t> integers(16, 1);
        const auto message = f.weights_error([](auto& tensors) {
            auto& norm = named(tensors, "model.norm.weight");
            norm.dtype = mor::io::DType::i64;
            norm.bytes = std::as_bytes(std::span{integers});
        });
        CHECK(contains(message, "tensor 'model.norm.weight' has dtype I64"));
    }
}

TEST_CASE("a weights file that is cut off anywhere is named") {
    Fixture f;
    const std::string bytes = read_file(f.weights);
    for (std::size_t length = 0; length < bytes.size(); length += 997) {
        CAPTURE(length);
        f.directory.write("model/model.safetensors", bytes.substr(0, length));
        (void)f.error_of<IoError>(f.weights);
    }
    f.directory.write("model/model.safetensors", bytes.substr(0, bytes.size() - 1));
    (void)f.error_of<IoError>(f.weights);
    f.directory.write("model/model.safetensors", bytes + "x");
    (void)f.error_of<IoError>(f.weights);
}
