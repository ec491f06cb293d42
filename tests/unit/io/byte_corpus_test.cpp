// SPDX-License-Identifier: Apache-2.0

#include "temp_directory.hpp"
#include <mor/io/byte_corpus.hpp>
#include <mor/train/dataset.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

using mor::Index;
using mor::IoError;
using mor::ShapeError;
using mor::io::ByteCorpus;
using mor::test::contains;
using mor::test::message_of;
using mor::test::TempDirectory;

static_assert(mor::TokenStream<ByteCorpus>);

namespace {

std::string text(const ByteCorpus& corpus, Index offset, Index count) {
    std::vector<mor::TokenId> tokens(static_cast<std::size_t>(count), -1);
    corpus.read(offset, tokens);
    return {tokens.begin(), tokens.end()};
}

}  // namespace

TEST_CASE("a file is its bytes, from 0 to 255") {
    const TempDirectory directory;
    std::string bytes(256, '\0');
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] = static_cast<char>(i);
    }
    const auto path = directory.write("file", bytes);
    const ByteCorpus corpus{path};
    CHECK(corpus.size() == 256);
    CHECK(corpus.name() == path.string());
    std::vector<mor::TokenId> tokens(256);
    corpus.read(0, tokens);
    for (mor::TokenId i = 0; i < 256; ++i) {
        CHECK(tokens[static_cast<std::size_t>(i)] == i);
    }
}

TEST_CASE("a directory is its files in the order of their paths, as one stream") {
    const TempDirectory directory;
    std::filesystem::create_directories(directory / "b/inner");
    directory.write("c", "CCC");
    directory.write("a", "A");
    directory.write("b/inner/z", "ZZ");
    directory.write("b/empty", "");
    directory.write("b/a", "BB");
    directory.write("zz-empty", "");
    const ByteCorpus corpus{directory.path()};
    CHECK(corpus.size() == 8);
    CHECK(text(corpus, 0, 8) == "ABBZZCCC");

    SUBCASE("and every piece of it is read right, across the borders of files") {
        for (Index first = 0; first <= 8; ++first) {
            for (Index count = 0; first + count <= 8; ++count) {
                CHECK(text(corpus, first, count) ==
                      std::string{"ABBZZCCC"}.substr(static_cast<std::size_t>(first),
                                                     static_cast<std::size_t>(count)));
            }
        }
    }
}

TEST_CASE("reading beyond the end names the corpus and the place") {
    const TempDirectory directory;
    const auto path = directory.write("file", "0123456789");
    const ByteCorpus corpus{path};
    CHECK(message_of<ShapeError>([&] { text(corpus, 8, 3); }) ==
          path.string() + ": 3 bytes from 8 on, of 10");
    CHECK_THROWS_AS(text(corpus, -1, 1), ShapeError);
    CHECK_THROWS_AS(text(corpus, 11, 0), ShapeError);
    CHECK_THROWS_AS(text(corpus, std::numeric_limits<Index>::max(), 1), ShapeError);
    CHECK(text(corpus, 10, 0).empty());
}

TEST_CASE("empty files hold no bytes, and are no error by themselves") {
    const TempDirectory directory;
    const auto path = directory.write("file", "");
    CHECK(ByteCorpus{path}.size() == 0);
    CHECK(ByteCorpus{directory.path()}.size() == 0);
    CHECK(contains(message_of<mor::ConfigError>([&] { (void)mor::split(ByteCorpus{path}, 10, 4); }),
                   path.string() + " has 0 tokens"));
}

TEST_CASE("a path that is missing, or a directory without files, is named") {
    const TempDirectory directory;
    const auto gone = directory / "gone";
    CHECK(message_of<IoError>([&] { ByteCorpus{gone}; }) ==
          gone.string() + ": cannot be opened: No such file or directory");

    std::filesystem::create_directories(directory / "folder/inner");
    const auto folder = directory / "folder";
    CHECK(message_of<IoError>([&] { ByteCorpus{folder}; }) ==
          folder.string() + ": the directory holds no file");
    CHECK(message_of<IoError>([&] { ByteCorpus{"/dev/null"}; }) ==
          "/dev/null: cannot be opened: not a regular file");
}

TEST_CASE("a link that leads nowhere is named") {
    const TempDirectory directory;
    directory.write("a", "A");
    std::filesystem::create_symlink("gone", directory / "link");
    CHECK(contains(message_of<IoError>([&] { ByteCorpus{directory.path()}; }),
                   (directory / "link").string()));
}
