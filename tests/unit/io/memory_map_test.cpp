// SPDX-License-Identifier: Apache-2.0

#include "temp_directory.hpp"
#include <mor/io/memory_map.hpp>

#include <doctest/doctest.h>

#include <string>
#include <sys/stat.h>
#include <type_traits>
#include <utility>

using mor::IoError;
using mor::io::MemoryMap;
using mor::test::contains;
using mor::test::message_of;
using mor::test::TempDirectory;

namespace {

std::string text_of(const MemoryMap& map) {
    return {reinterpret_cast<const char*>(map.bytes().data()), map.bytes().size()};
}

std::string message_of_opening(const std::filesystem::path& path) {
    return message_of<IoError>([&] { MemoryMap{path}; });
}

}  // namespace

static_assert(!std::is_copy_constructible_v<MemoryMap>);
static_assert(std::is_nothrow_move_constructible_v<MemoryMap>);

TEST_CASE("a memory map shows the bytes of the file and keeps them when moved") {
    const TempDirectory directory;
    MemoryMap map{directory.write("a", std::string{"x\0y", 3})};
    const auto* const address = map.bytes().data();
    MemoryMap moved{std::move(map)};
    CHECK(text_of(moved) == std::string{"x\0y", 3});
    CHECK(moved.bytes().data() == address);

    MemoryMap other{directory.write("b", "other")};
    other = std::move(moved);
    CHECK(other.bytes().data() == address);
}

TEST_CASE("an empty file maps to no bytes") {
    const TempDirectory directory;
    const MemoryMap map{directory.write("empty", "")};
    CHECK(map.bytes().empty());
}

TEST_CASE("a file that cannot be mapped is named together with the cause") {
    const TempDirectory directory;
    CHECK(message_of_opening(directory / "missing") ==
          (directory / "missing").string() + ": cannot be opened: No such file or directory");
    CHECK(contains(message_of_opening(directory.path()), "Is a directory"));

    const auto pipe = directory / "pipe";
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    CHECK(contains(message_of_opening(pipe), "not a regular file"));

    const auto locked = directory.write("locked", "secret");
    REQUIRE(::chmod(locked.c_str(), 0) == 0);
    if (::geteuid() != 0) {  // nothing is locked for root
        CHECK(contains(message_of_opening(locked), "Permission denied"));
    }
}

TEST_CASE("replacing a mapped file leaves the map as it was") {
    const TempDirectory directory;
    const auto path = directory.write("file", "old");
    const MemoryMap map{path};
    std::filesystem::rename(directory.write("new", "newer"), path);
    CHECK(text_of(map) == "old");
}
