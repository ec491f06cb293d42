// SPDX-License-Identifier: Apache-2.0
//
// Text as bytes: one file, or all files of a directory in order of their paths, memory-mapped and
// read as one stream of 256 symbols.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/types.hpp>
#include <mor/io/memory_map.hpp>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace mor::io {

class ByteCorpus {
public:
    /// Throws IoError, naming the path, if it is missing, unreadable or holds no regular file.
    explicit ByteCorpus(const std::filesystem::path& path) : name_{path.string()} {
        std::vector<std::filesystem::path> paths;
        std::error_code failure;
        if (std::filesystem::is_directory(path, failure)) {
            for (auto entry = std::filesystem::recursive_directory_iterator(path, failure);
                 !failure && entry != std::filesystem::recursive_directory_iterator();
                 entry.increment(failure)) {
                const auto type = entry->status(failure).type();
                const bool leads_nowhere = type == std::filesystem::file_type::not_found;
                if (type == std::filesystem::file_type::regular || leads_nowhere) {
                    failure.clear();
                    paths.push_back(entry->path());  // opening a link to nowhere says its name
                }
            }
            check<IoError>(!failure, name_, ": cannot list the directory: ", failure.message());
            check<IoError>(!paths.empty(), name_, ": the directory holds no file");
            std::sort(paths.begin(), paths.end());
        } else {
            paths.push_back(path);
        }
        for (const auto& file : paths) {
            files_.emplace_back(file);
            begins_.push_back(size_);
            size_ += std::ssize(files_.back().bytes());
        }
    }

    [[nodiscard]] Index size() const { return size_; }
    [[nodiscard]] const std::string& name() const { return name_; }

    /// Reads out.size() bytes from `offset` on. Throws ShapeError beyond the end.
    void read(Index offset, std::span<TokenId> out) const {
        check<ShapeError>(offset >= 0 && offset <= size_ - std::ssize(out), name_, ": ", out.size(),
                          " bytes from ", offset, " on, of ", size_);
        auto file = static_cast<std::size_t>(
            std::upper_bound(begins_.begin(), begins_.end(), offset) - begins_.begin() - 1);
        std::size_t written = 0;
        while (written < out.size()) {
            const auto bytes = files_[file].bytes();
            const auto from = static_cast<std::size_t>(offset - begins_[file]);
            const std::size_t count = std::min(bytes.size() - from, out.size() - written);
            std::transform(bytes.begin() + static_cast<std::ptrdiff_t>(from),
                           bytes.begin() + static_cast<std::ptrdiff_t>(from + count),
                           out.begin() + static_cast<std::ptrdiff_t>(written),
                           [](std::byte b) { return static_cast<TokenId>(b); });
            written += count;
            offset += static_cast<Index>(count);
            ++file;
        }
    }

private:
    std::string name_;
    std::vector<MemoryMap> files_;
    std::vector<Index> begins_;  // [files] offset of each file's first byte
    Index size_ = 0;
};

/// A text as tokens, one a byte.
[[nodiscard]] inline std::vector<TokenId> to_tokens(std::string_view text) {
    std::vector<TokenId> tokens;
    tokens.reserve(text.size());
    for (const char c : text) {
        tokens.push_back(static_cast<unsigned char>(c));
    }
    return tokens;
}

}  // namespace mor::io
