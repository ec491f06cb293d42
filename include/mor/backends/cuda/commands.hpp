// SPDX-License-Identifier: Apache-2.0
//
// Work for a device that was asked for and not handed over yet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <new>
#include <string_view>
#include <type_traits>
#include <vector>

namespace mor::cuda {

/// Commands in the order in which they were asked for, as bytes that can be compared: two lists are
/// equal if they do the same with the same addresses and numbers. What uploads copy is apart, and
/// may differ.
class Commands {
public:
    /// Whether bytes between a command's members, which are nobody's, are cleared, so that equal
    /// commands are always found equal. Where the compiler cannot, a list may miss its graph.
    static constexpr bool clears_padding =
#if __has_builtin(__builtin_clear_padding)
        true;
#else
        false;
#endif

    /// Command: copyable as bytes; command() hands it over.
    template <class Command>
    void add(const Command& command) {
        place(&run_command<Command>, command);
    }

    /// `bytes` from `source`, read now, for upload(destination, address, bytes) when the list runs.
    template <auto upload>
    void add_upload(void* destination, const void* source, std::size_t bytes) {
        const std::size_t offset = contents_.size();
        contents_.resize(offset + padded(bytes));
        std::memcpy(contents_.data() + offset, source, bytes);
        place(&run_upload<upload>, Upload{destination, offset, bytes});
    }

    /// Hands all over; `contents` is a copy of contents().
    void run(const std::byte* contents) const {
        for (std::size_t at = 0; at < records_.size();) {
            const Header& header = *std::launder(reinterpret_cast<const Header*>(&records_[at]));
            header.run(&records_[at + sizeof(Header)], contents);
            at += header.bytes;
        }
    }

    void clear() {
        records_.clear();
        contents_.clear();
    }

    [[nodiscard]] bool empty() const { return records_.empty(); }
    [[nodiscard]] const std::vector<std::byte>& contents() const { return contents_; }
    [[nodiscard]] std::uint64_t hash() const {
        return std::hash<std::string_view>{}(
            {reinterpret_cast<const char*>(records_.data()), records_.size()});
    }
    [[nodiscard]] bool operator==(const Commands& other) const {
        return records_ == other.records_ && contents_.size() == other.contents_.size();
    }

private:
    static constexpr std::size_t alignment = 16;  // of memory from operator new

    using Run = void (*)(const std::byte* command, const std::byte* contents);
    struct alignas(alignment) Header {
        Run run;
        std::size_t bytes;  // with this header
    };
    struct Upload {
        void* destination;
        std::size_t offset;  // in the contents
        std::size_t bytes;
    };

    [[nodiscard]] static std::size_t padded(std::size_t bytes) {
        return (bytes + alignment - 1) / alignment * alignment;
    }

    template <class Command>
    static void run_command(const std::byte* command, const std::byte* /*contents*/) {
        (*std::launder(reinterpret_cast<const Command*>(command)))();
    }
    template <auto upload>
    static void run_upload(const std::byte* command, const std::byte* contents) {
        const auto& [destination, offset, bytes] =
            *std::launder(reinterpret_cast<const Upload*>(command));
        upload(destination, contents + offset, bytes);
    }

    template <class Command>
    void place(Run its_run, const Command& command) {
        static_assert(std::is_trivially_copyable_v<Command> && alignof(Command) <= alignment);
        const std::size_t at = records_.size();
        const std::size_t bytes = sizeof(Header) + padded(sizeof(Command));
        records_.resize(at + bytes);
        new (&records_[at]) Header{its_run, bytes};
        auto* const stored = new (&records_[at + sizeof(Header)]) Command(command);
#if __has_builtin(__builtin_clear_padding)
        __builtin_clear_padding(stored);
#else
        static_cast<void>(stored);
#endif
    }

    std::vector<std::byte> records_;
    std::vector<std::byte> contents_;
};

}  // namespace mor::cuda
