// SPDX-License-Identifier: Apache-2.0
//
// MemoryMap: the bytes of a file without reading them first, so that opening a checkpoint of many
// gigabytes costs nothing. Together with atomic_file.hpp the only header that calls POSIX.
#pragma once

#include <mor/core/error.hpp>

#include <cerrno>
#include <cstddef>
#include <fcntl.h>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace mor::io {

namespace detail {

/// Throws IoError "file: what: cause", the cause being the text of an errno value.
[[noreturn]] inline void fail_with_errno(const std::filesystem::path& file, std::string_view what,
                                         int error = errno) {
    fail<IoError>(file.string(), ": ", what, ": ", std::generic_category().message(error));
}

/// Closes a file descriptor on scope exit.
class Descriptor {
public:
    explicit Descriptor(int number) : number_{number} {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() { close(); }

    [[nodiscard]] bool is_open() const { return number_ >= 0; }
    [[nodiscard]] int number() const { return number_; }

    /// False, with errno set, if the system reports a late write error.
    bool close() { return !is_open() || ::close(std::exchange(number_, -1)) == 0; }

private:
    int number_;
};

}  // namespace detail

/// A whole regular file, mapped read-only. The file must not be shortened while it is mapped;
/// replacing it as write_file_atomically() does is harmless.
class MemoryMap {
public:
    /// Throws IoError naming the file and the cause if it is missing, unreadable, or anything but
    /// a regular file.
    explicit MemoryMap(const std::filesystem::path& file) {
        // Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
        const detail::Descriptor descriptor{
            ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
        struct stat status {};
        if (!descriptor.is_open() || ::fstat(descriptor.number(), &status) != 0) {
            detail::fail_with_errno(file, "cannot be opened");
        }
        if (S_ISDIR(status.st_mode)) {
            detail::fail_with_errno(file, "cannot be opened", EISDIR);
        }
        check<IoError>(S_ISREG(status.st_mode), file.string(),
                       ": cannot be opened: not a regular file");
        if (status.st_size == 0) {
            return;  // mmap refuses a length of zero
        }
        const auto size_bytes = static_cast<std::size_t>(status.st_size);
        void* const data =
            ::mmap(nullptr, size_bytes, PROT_READ, MAP_PRIVATE, descriptor.number(), 0);
        if (data == MAP_FAILED) {
            detail::fail_with_errno(file, "cannot be mapped");
        }
        bytes_ = {static_cast<const std::byte*>(data), size_bytes};
    }

    MemoryMap(const MemoryMap&) = delete;
    MemoryMap& operator=(const MemoryMap&) = delete;
    MemoryMap(MemoryMap&& other) noexcept : bytes_{std::exchange(other.bytes_, {})} {}
    MemoryMap& operator=(MemoryMap&& other) noexcept {
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~MemoryMap() {
        if (!bytes_.empty()) {
            ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
        }
    }

    /// Valid as long as this object, or the one it was moved to, lives.
    [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

private:
    std::span<const std::byte> bytes_;
};

}  // namespace mor::io
