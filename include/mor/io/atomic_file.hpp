// SPDX-License-Identifier: Apache-2.0
//
// Files and directories that are either wholly the old ones or wholly the new ones, whatever
// happens in between: an exception, a full disk, a killed process, a power cut.
#pragma once

#include <mor/core/error.hpp>
#include <mor/io/memory_map.hpp>

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace mor::io {

/// Where the writer of write_file_atomically() puts its bytes.
class FileWriter {
public:
    FileWriter(const detail::Descriptor& descriptor, const std::filesystem::path& name)
        : descriptor_{descriptor}, name_{name} {}

    /// Appends to the file. Unbuffered. Throws IoError naming the file and the cause.
    void write(const void* data, std::size_t size_bytes) {
        const auto* position = static_cast<const std::byte*>(data);
        while (size_bytes > 0) {
            const ssize_t written = ::write(descriptor_.number(), position, size_bytes);
            if (written < 0) {
                if (errno == EINTR) {
                    continue;
                }
                detail::fail_with_errno(name_, "cannot be written");
            }
            position += written;
            size_bytes -= static_cast<std::size_t>(written);
        }
    }
    void write(std::string_view text) { write(text.data(), text.size()); }

private:
    const detail::Descriptor& descriptor_;
    const std::filesystem::path& name_;
};

namespace detail {

/// Removes a file or a directory on scope exit, unless told to keep it.
class Temporary {
public:
    explicit Temporary(std::filesystem::path path) : path_{std::move(path)} {}
    Temporary(const Temporary&) = delete;
    Temporary& operator=(const Temporary&) = delete;
    ~Temporary() {
        if (!path_.empty()) {
            std::error_code ignored;
            std::filesystem::remove_all(path_, ignored);
        }
    }

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }
    void keep() { path_.clear(); }

private:
    std::filesystem::path path_;
};

/// What a user means by a path to replace: links lead to the real thing, and "out/" is "out".
inline std::filesystem::path resolve(const std::filesystem::path& path) {
    std::filesystem::path named = path.has_filename() ? path : path.parent_path();
    std::error_code error;
    if (std::filesystem::is_symlink(named, error)) {
        auto real = std::filesystem::weakly_canonical(named, error);
        check<IoError>(!error, named.string(), ": cannot be resolved: ", error.message());
        return real;
    }
    return named;
}

/// Makes something beside `target` whose name nobody has: `make(path)` returns false, with errno
/// set, if it could not. A name left over from a killed process is passed over.
template <std::predicate<const std::filesystem::path&> Make>
std::filesystem::path make_sibling(const std::filesystem::path& target, std::string_view label,
                                   Make make) {
    std::string name = target.string();
    name.append(".").append(label).append("-").append(std::to_string(::getpid()));
    std::filesystem::path candidate = name;
    for (int attempt = 1; !make(candidate); ++attempt) {
        if (errno != EEXIST) {
            fail_with_errno(target, "cannot be written");
        }
        candidate = name + "-" + std::to_string(attempt);
    }
    return candidate;
}

inline std::filesystem::path make_sibling_directory(const std::filesystem::path& target,
                                                    std::string_view label) {
    return make_sibling(target, label, [](const std::filesystem::path& candidate) {
        return ::mkdir(candidate.c_str(), 0777) == 0;
    });
}

/// Makes what was written to `path`, a file or the entries of a directory, survive a power cut.
inline void sync_to_disk(const std::filesystem::path& path) {
    const Descriptor descriptor{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    // Some file systems cannot sync a directory and say EINVAL; there is nothing better to do.
    if (!descriptor.is_open() || (::fsync(descriptor.number()) != 0 && errno != EINVAL)) {
        fail_with_errno(path, "cannot be written to disk");
    }
}

inline void sync_parent(const std::filesystem::path& path) {
    const auto parent = path.parent_path();
    sync_to_disk(parent.empty() ? std::filesystem::path{"."} : parent);
}

inline void sync_tree(const std::filesystem::path& directory) {
    std::error_code error;
    std::filesystem::recursive_directory_iterator entry{directory, error};
    for (; !error && entry != std::filesystem::recursive_directory_iterator{};
         entry.increment(error)) {
        const auto type = entry->symlink_status(error).type();
        if (type == std::filesystem::file_type::regular ||
            type == std::filesystem::file_type::directory) {
            sync_to_disk(entry->path());
        }
    }
    check<IoError>(!error, directory.string(), ": cannot be listed: ", error.message());
    sync_to_disk(directory);
}

inline void rename_over(const std::filesystem::path& from, const std::filesystem::path& to) {
    if (std::rename(from.c_str(), to.c_str()) != 0) {
        fail_with_errno(to, "cannot be replaced");
    }
}

/// Swaps two directories in one step. False where the system or the file system cannot.
inline bool swap_directories([[maybe_unused]] const std::filesystem::path& a,
                             [[maybe_unused]] const std::filesystem::path& b) {
#ifdef RENAME_EXCHANGE
    return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
#else
    return false;
#endif
}

/// Puts `staging` in the place of `target` with two renames; a process killed between them leaves
/// the old directory beside, under the name that is returned otherwise.
inline std::filesystem::path replace_with_two_renames(const std::filesystem::path& staging,
                                                      const std::filesystem::path& target) {
    auto old = make_sibling_directory(target, "replaced");
    Temporary empty{old};
    rename_over(target, old);
    empty.keep();
    if (std::rename(staging.c_str(), target.c_str()) != 0) {
        const int error = errno;
        rename_over(old, target);
        fail_with_errno(target, "cannot be replaced", error);
    }
    return old;
}

}  // namespace detail

/// Creates or replaces a file with what `writer(FileWriter&)` writes. If anything fails, the old
/// file stays as it was and nothing else is left behind; a killed process may leave a file
/// `path` + ".partial-" + its id, which disturbs nobody. The new file has the default permissions.
/// Throws IoError naming the file and the cause, or what `writer` throws.
template <std::invocable<FileWriter&> Writer>
void write_file_atomically(const std::filesystem::path& path, Writer&& writer) {
    const auto target = detail::resolve(path);
    int opened = -1;
    detail::Temporary temporary{
        detail::make_sibling(target, "partial", [&](const std::filesystem::path& candidate) {
            opened = ::open(candidate.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
            return opened >= 0;
        })};
    detail::Descriptor descriptor{opened};
    FileWriter file{descriptor, target};
    std::invoke(std::forward<Writer>(writer), file);
    if (::fsync(descriptor.number()) != 0 || !descriptor.close()) {
        detail::fail_with_errno(target, "cannot be written to disk");
    }
    detail::rename_over(temporary.path(), target);
    temporary.keep();
    detail::sync_parent(target);
}

/// The same, with a text.
inline void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
    write_file_atomically(path, [text](FileWriter& file) { file.write(text); });
}

/// Creates or replaces a directory with the files that `fill(staging)` writes to the empty
/// directory `staging` beside it. If anything fails, the old directory stays as it was and the
/// staging directory is removed; a killed process may leave `target` + ".partial-" + its id, which
/// disturbs nobody. Throws IoError naming the directory and the cause, or what `fill` throws.
template <std::invocable<const std::filesystem::path&> Fill>
void replace_directory_atomically(const std::filesystem::path& target, Fill&& fill) {
    const auto place = detail::resolve(target);
    std::error_code error;
    const auto status = std::filesystem::symlink_status(place, error);
    const bool replaces = std::filesystem::exists(status);
    check<IoError>(!replaces || std::filesystem::is_directory(status), place.string(),
                   ": cannot be replaced: not a directory");

    detail::Temporary staging{detail::make_sibling_directory(place, "partial")};
    std::invoke(std::forward<Fill>(fill), staging.path());
    detail::sync_tree(staging.path());

    std::filesystem::path old;
    if (!replaces) {
        detail::rename_over(staging.path(), place);
    } else if (detail::swap_directories(staging.path(), place)) {
        old = staging.path();
    } else {
        old = detail::replace_with_two_renames(staging.path(), place);
    }
    staging.keep();
    detail::sync_parent(place);
    if (replaces) {
        std::filesystem::remove_all(old, error);
        check<IoError>(!error, place.string(), ": was replaced, but the old one, now ",
                       old.string(), ", cannot be removed: ", error.message());
    }
}

/// The whole content of a regular file. Throws IoError naming the file and the cause.
[[nodiscard]] inline std::string read_file(const std::filesystem::path& path) {
    const MemoryMap map{path};
    return {reinterpret_cast<const char*>(map.bytes().data()), map.bytes().size()};
}

}  // namespace mor::io
