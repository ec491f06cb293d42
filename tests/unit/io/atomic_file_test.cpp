// SPDX-License-Identifier: Apache-2.0

#include "temp_directory.hpp"
#include <mor/io/atomic_file.hpp>

#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <sys/resource.h>

using mor::IoError;
using mor::io::FileWriter;
using mor::io::read_file;
using mor::io::replace_directory_atomically;
using mor::io::write_file_atomically;
using mor::test::contains;
using mor::test::message_of;
using mor::test::TempDirectory;

namespace {

/// No file of the process may grow beyond `bytes`: the nearest thing to a full disk.
class FileSizeLimit {
public:
    explicit FileSizeLimit(rlim_t bytes) : handler_{std::signal(SIGXFSZ, SIG_IGN)} {
        ::getrlimit(RLIMIT_FSIZE, &old_);
        const rlimit limit{bytes, old_.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    FileSizeLimit(const FileSizeLimit&) = delete;
    FileSizeLimit& operator=(const FileSizeLimit&) = delete;
    ~FileSizeLimit() {
        ::setrlimit(RLIMIT_FSIZE, &old_);
        std::signal(SIGXFSZ, handler_);
    }

private:
    rlimit old_{};
    void (*handler_)(int);
};

auto put(std::string text) {
    return [text](FileWriter& file) { file.write(text); };
}

auto put_into(std::string name, std::string text) {
    return [name, text](const std::filesystem::path& staging) {
        write_file_atomically(staging / name, put(text));
    };
}

}  // namespace

TEST_CASE("a file is created and replaced with everything written") {
    const TempDirectory directory;
    const auto path = directory / "file";
    write_file_atomically(path, [](FileWriter& file) {
        file.write("one ");
        file.write("two", 3);
        file.write(nullptr, 0);
    });
    CHECK(read_file(path) == "one two");
    write_file_atomically(path, put("three"));
    CHECK(read_file(path) == "three");
    write_file_atomically(path, [](FileWriter&) {});
    CHECK(read_file(path).empty());
    CHECK(directory.num_entries() == 1);
}

TEST_CASE("a file in the current directory needs no directory in its name") {
    const TempDirectory directory;
    const auto before = std::filesystem::current_path();
    std::filesystem::current_path(directory.path());
    write_file_atomically("file", put("text"));
    replace_directory_atomically("folder", put_into("a", "1"));
    std::filesystem::current_path(before);
    CHECK(read_file(directory / "file") == "text");
    CHECK(read_file(directory / "folder/a") == "1");
}

TEST_CASE("an exception of the writer leaves the old file and nothing else") {
    const TempDirectory directory;
    const auto path = directory.write("file", "old");
    CHECK_THROWS_AS(write_file_atomically(path,
                                          [](FileWriter& file) {
                                              file.write("half");
                                              throw std::runtime_error{"stop"};
                                          }),
                    std::runtime_error);
    CHECK(read_file(path) == "old");
    CHECK(directory.num_entries() == 1);
}

TEST_CASE("a disk that takes no more leaves the old file and nothing else") {
    const TempDirectory directory;
    const auto path = directory.write("file", "old");
    std::string message;
    {
        const FileSizeLimit limit{100};
        message =
            message_of<IoError>([&] { write_file_atomically(path, put(std::string(1'000, 'x'))); });
    }
    CHECK(message == path.string() + ": cannot be written: File too large");
    CHECK(read_file(path) == "old");
    CHECK(directory.num_entries() == 1);
}

TEST_CASE("a file that cannot be created or replaced is named with the cause") {
    const TempDirectory directory;
    const auto lost = directory / "no/file";
    CHECK(message_of<IoError>([&] { write_file_atomically(lost, put("x")); }) ==
          lost.string() + ": cannot be written: No such file or directory");

    const auto folder = directory / "folder";
    std::filesystem::create_directory(folder);
    CHECK(message_of<IoError>([&] { write_file_atomically(folder, put("x")); }) ==
          folder.string() + ": cannot be replaced: Is a directory");
    CHECK(directory.num_entries() == 1);
}

TEST_CASE("a link stays a link, and what it leads to is replaced") {
    const TempDirectory directory;
    const auto file = directory.write("file", "old");
    std::filesystem::create_symlink("file", directory / "link");
    write_file_atomically(directory / "link", put("new"));
    CHECK(std::filesystem::is_symlink(directory / "link"));
    CHECK(read_file(file) == "new");
}

TEST_CASE("a file left over from a killed process is passed over") {
    const TempDirectory directory;
    const std::string partial = "file.partial-" + std::to_string(::getpid());
    directory.write(partial, "left over");
    write_file_atomically(directory / "file", put("new"));
    CHECK(read_file(directory / "file") == "new");
    CHECK(read_file(directory / partial) == "left over");
}

TEST_CASE("a directory is created and replaced as a whole") {
    const TempDirectory directory;
    const auto target = directory / "checkpoint";
    replace_directory_atomically(target, [&](const std::filesystem::path& staging) {
        CHECK(staging.parent_path() == directory.path());
        CHECK(std::filesystem::is_empty(staging));
        CHECK_FALSE(std::filesystem::exists(target));
        std::filesystem::create_directory(staging / "sub");
        write_file_atomically(staging / "sub/a", put("1"));
    });
    CHECK(read_file(target / "sub/a") == "1");

    replace_directory_atomically(directory / "checkpoint/", put_into("b", "2"));
    CHECK_FALSE(std::filesystem::exists(target / "sub"));
    CHECK(read_file(target / "b") == "2");
    CHECK(directory.num_entries() == 1);
}

TEST_CASE("an exception while a directory is filled leaves the old one and nothing else") {
    const TempDirectory directory;
    const auto target = directory / "checkpoint";
    const auto fail_to_fill = [&] {
        replace_directory_atomically(target, [](const std::filesystem::path& staging) {
            write_file_atomically(staging / "a", put("new"));
            throw std::runtime_error{"stop"};
        });
    };
    CHECK_THROWS_AS(fail_to_fill(), std::runtime_error);
    CHECK(directory.num_entries() == 0);

    replace_directory_atomically(target, put_into("a", "old"));
    CHECK_THROWS_AS(fail_to_fill(), std::runtime_error);
    CHECK(read_file(target / "a") == "old");
    CHECK(directory.num_entries() == 1);
}

TEST_CASE("a disk that takes no more leaves the old directory and nothing else") {
    const TempDirectory directory;
    const auto target = directory / "checkpoint";
    replace_directory_atomically(target, put_into("a", "old"));
    std::string message;
    {
        const FileSizeLimit limit{100};
        message = message_of<IoError>(
            [&] { replace_directory_atomically(target, put_into("a", std::string(1'000, 'x'))); });
    }
    CHECK(contains(message, "File too large"));
    CHECK(read_file(target / "a") == "old");
    CHECK(directory.num_entries() == 1);
}

TEST_CASE("a directory left over from a killed process is passed over") {
    const TempDirectory directory;
    const auto left_over = directory / ("checkpoint.partial-" + std::to_string(::getpid()));
    std::filesystem::create_directory(left_over);
    std::filesystem::create_directory(left_over / "half");
    replace_directory_atomically(directory / "checkpoint", put_into("a", "new"));
    CHECK(read_file(directory / "checkpoint/a") == "new");
    CHECK_FALSE(std::filesystem::exists(directory / "checkpoint/half"));
    CHECK(std::filesystem::exists(left_over / "half"));
}

TEST_CASE("a file in the place of a directory is not replaced") {
    const TempDirectory directory;
    const auto target = directory.write("checkpoint", "a file");
    CHECK(message_of<IoError>([&] { replace_directory_atomically(target, put_into("a", "1")); }) ==
          target.string() + ": cannot be replaced: not a directory");
    CHECK(read_file(target) == "a file");
    CHECK(directory.num_entries() == 1);

    const auto lost = directory / "no/checkpoint";
    CHECK(message_of<IoError>([&] { replace_directory_atomically(lost, put_into("a", "1")); }) ==
          lost.string() + ": cannot be written: No such file or directory");
}

TEST_CASE("a link to a directory stays a link") {
    const TempDirectory directory;
    std::filesystem::create_directory(directory / "real");
    std::filesystem::create_directory_symlink("real", directory / "link");
    replace_directory_atomically(directory / "link", put_into("a", "1"));
    CHECK(std::filesystem::is_symlink(directory / "link"));
    CHECK(read_file(directory / "real/a") == "1");
    CHECK(directory.num_entries() == 2);
}

TEST_CASE("two renames replace a directory where one step cannot") {
    const TempDirectory directory;
    const auto target = directory / "target";
    std::filesystem::create_directories(directory / "staging");
    std::filesystem::create_directories(target);
    directory.write("staging/a", "new");
    directory.write("target/a", "old");

    const auto old = mor::io::detail::replace_with_two_renames(directory / "staging", target);
    CHECK(read_file(target / "a") == "new");
    CHECK(read_file(old / "a") == "old");

    SUBCASE("and put the old one back if the new one cannot take its place") {
        std::filesystem::remove_all(old);
        CHECK(contains(message_of<IoError>([&] {
                           mor::io::detail::replace_with_two_renames(directory / "gone", target);
                       }),
                       "No such file or directory"));
        CHECK(read_file(target / "a") == "new");
        CHECK(directory.num_entries() == 1);
    }
}

TEST_CASE("reading a file that is missing names it") {
    const TempDirectory directory;
    CHECK_THROWS_WITH_AS(
        (void)read_file(directory / "gone"),
        ((directory / "gone").string() + ": cannot be opened: No such file or directory").c_str(),
        IoError);
}
