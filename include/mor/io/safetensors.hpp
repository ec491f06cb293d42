// SPDX-License-Identifier: Apache-2.0
//
// The safetensors format: 8 bytes with the length of a header, the header in JSON, and the tensors
// without gaps. Files are checked completely when they are opened; they may come from anywhere.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/reflect.hpp>
#include <mor/core/types.hpp>
#include <mor/io/atomic_file.hpp>
#include <mor/io/dtype.hpp>
#include <mor/io/json.hpp>
#include <mor/io/memory_map.hpp>
#include <mor/io/safetensors_header.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

static_assert(std::endian::native == std::endian::little,
              "mor: safetensors files are little-endian, and so must be the machine");

namespace mor::io {

/// One tensor of an open file: its elements lie row-major in `bytes`, at any alignment.
struct TensorInfo {
    DType dtype = DType::f32;
    std::vector<Index> shape;
    std::span<const std::byte> bytes;
};

/// One tensor for write_safetensors().
struct TensorToWrite {
    std::string name;
    DType dtype = DType::f32;
    std::vector<Index> shape;
    std::span<const std::byte> bytes;
};

namespace detail {

/// The number an element stands for.
template <class Stored>
constexpr auto decode(Stored stored) {
    if constexpr (std::same_as<Stored, F16> || std::same_as<Stored, BFloat16>) {
        return to_float(stored);
    } else {
        return stored;
    }
}

/// Whether T takes every value of a stored type: exactly, or, if both are floating-point numbers,
/// rounded.
template <class T, class Stored>
constexpr bool can_read() {
    using From = std::numeric_limits<decltype(decode(Stored{}))>;
    using To = std::numeric_limits<T>;
    if constexpr (std::same_as<Stored, bool>) {
        return false;
    } else if constexpr (From::is_integer) {
        return From::digits <= To::digits;
    } else {
        return !To::is_integer;
    }
}

}  // namespace detail

/// A safetensors file, mapped into memory: tensors are read from disk when they are looked at.
class SafetensorsFile {
public:
    /// Checks the whole header. Throws IoError naming the file and the cause if the file cannot be
    /// opened or breaks a rule of the format; the allocations stay within a small multiple of the
    /// header that is really there.
    explicit SafetensorsFile(const std::filesystem::path& path) : path_{path.string()}, map_{path} {
        const auto file = map_.bytes();
        check<IoError>(file.size() >= sizeof(std::uint64_t), path_, ": is too short, has ",
                       file.size(), " bytes, expected at least ", sizeof(std::uint64_t));
        std::uint64_t header_bytes = 0;
        std::memcpy(&header_bytes, file.data(), sizeof header_bytes);
        check<IoError>(header_bytes <= detail::max_header_bytes, path_, ": the header has ",
                       header_bytes, " bytes, expected at most ", detail::max_header_bytes);
        check<IoError>(header_bytes <= file.size() - sizeof header_bytes, path_,
                       ": the header has ", header_bytes, " bytes, but only ",
                       file.size() - sizeof header_bytes, " follow");
        const auto header = file.subspan(sizeof header_bytes, header_bytes);
        read_header({reinterpret_cast<const char*>(header.data()), header.size()},
                    file.subspan(sizeof header_bytes + header_bytes));
    }

    /// All tensors by name. The bytes are valid as long as this object, or the one it was moved
    /// to, lives.
    [[nodiscard]] const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }

    /// The free-form text of the header.
    [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }

    /// The tensor of that name, or null.
    [[nodiscard]] const TensorInfo* find(const std::string& name) const {
        const auto found = tensors_.find(name);
        return found == tensors_.end() ? nullptr : &found->second;
    }

    /// The elements of a tensor, converted to T. Integers are only read as a type that holds all
    /// of theirs exactly. Floating-point numbers are only read as floating-point; F64 is rounded
    /// to the nearest float, and beyond its range becomes infinite. Throws IoError naming the
    /// file, the tensor and its dtype if it is missing or of another dtype.
    template <class T>
        requires std::same_as<T, float> || std::same_as<T, double> ||
                 std::same_as<T, std::int64_t> || std::same_as<T, std::int32_t>
    [[nodiscard]] std::vector<T> read_as(const std::string& name) const {
        const TensorInfo* const tensor = find(name);
        if (tensor == nullptr) {
            fail_missing(name);
        }
        return visit_dtype(tensor->dtype, [&](auto type) -> std::vector<T> {
            using Stored = typename decltype(type)::type;
            if constexpr (detail::can_read<T, Stored>()) {
                std::vector<T> values(tensor->bytes.size() / sizeof(Stored));
                for (std::size_t i = 0; i < values.size(); ++i) {
                    Stored stored;
                    std::memcpy(&stored, tensor->bytes.data() + i * sizeof stored, sizeof stored);
                    // NOLINTNEXTLINE(bugprone-signed-char-misuse): I8 is a number
                    values[i] = static_cast<T>(detail::decode(stored));
                }
                return values;
            } else {
                fail<IoError>(path_, ": tensor '", name, "' has dtype ", to_string(tensor->dtype),
                              ", which cannot be read as ", to_string(dtype_of<T>));
            }
        });
    }

private:
    void read_header(std::string_view text, std::span<const std::byte> data) {
        check<IoError>(text.starts_with('{'), path_, ": the header is not a JSON object");
        // The JSON parser takes a NUL for the end of the text.
        check<IoError>(text.find('\0') == std::string_view::npos, path_,
                       ": the header contains a NUL byte");
        detail::HeaderReader reader{path_};
        nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
        metadata_ = std::move(reader.metadata);
        for (auto& [name, entry] : reader.entries) {
            add_tensor(name, std::move(entry), data);
        }
        check_tiling(data);
    }

    void add_tensor(const std::string& name, detail::HeaderEntry entry,
                    std::span<const std::byte> data) {
        const auto who = [&] { return path_ + ": tensor '" + printable(name) + "'"; };
        const std::uint64_t begin = entry.offsets[0];
        const std::uint64_t end = entry.offsets[1];
        const auto bytes = detail::tensor_bytes(entry.dtype, entry.shape);
        if (!bytes) {
            fail<IoError>(who(), ": its shape has too many elements");
        }
        check<IoError>(begin <= end, who(), ": begins at byte ", begin, " but ends at ", end);
        check<IoError>(end <= data.size(), who(), ": ends at byte ", end, ", the data at ",
                       data.size());
        check<IoError>(static_cast<std::uint64_t>(*bytes) == end - begin, who(), ": has ",
                       end - begin, " bytes, its shape and dtype take ", *bytes);
        tensors_.emplace(name, TensorInfo{entry.dtype, std::move(entry.shape),
                                          data.subspan(begin, end - begin)});
    }

    // The format allows neither overlaps nor holes: nothing can hide between tensors.
    void check_tiling(std::span<const std::byte> data) const {
        using Piece = std::tuple<const std::byte*, const std::byte*, std::string_view>;
        std::vector<Piece> pieces;
        pieces.reserve(tensors_.size());
        for (const auto& [name, tensor] : tensors_) {
            pieces.emplace_back(tensor.bytes.data(), tensor.bytes.data() + tensor.bytes.size(),
                                name);
        }
        std::sort(pieces.begin(), pieces.end());
        const std::byte* expected = data.data();
        std::string_view previous;
        for (const auto& [begin, end, name] : pieces) {
            check<IoError>(begin >= expected, path_, ": the tensors '", printable(previous),
                           "' and '", printable(name), "' overlap");
            check<IoError>(begin == expected, path_, ": ", begin - expected,
                           " bytes before tensor '", printable(name), "' belong to no tensor");
            expected = end;
            previous = name;
        }
        const auto trailing = data.data() + data.size() - expected;
        check<IoError>(trailing == 0, path_, ": the last ", trailing, " bytes belong to no tensor");
    }

    [[noreturn]] void fail_missing(const std::string& name) const {
        std::vector<std::string> names;
        names.reserve(tensors_.size());
        for (const auto& tensor : tensors_) {
            names.push_back(tensor.first);
        }
        fail<IoError>(path_, ": has no tensor '", name, "'",
                      names.empty() ? "" : "; the nearest name is '",
                      printable(nearest_name(name, names)), names.empty() ? "" : "'");
    }

    std::string path_;
    MemoryMap map_;
    std::map<std::string, TensorInfo> tensors_;
    std::map<std::string, std::string> metadata_;
};

/// Writes the tensors in the given order, atomically (see write_file_atomically); the same input
/// gives the same bytes. Throws IoError naming the file and the cause if two tensors have the same
/// name, a name or metadata text is not UTF-8, bytes do not fit a shape, or the disk refuses.
inline void write_safetensors(const std::filesystem::path& path,
                              const std::vector<TensorToWrite>& tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
    const std::string file = path.string();
    std::string header = "{";
    std::set<std::string_view> names{detail::metadata_key};
    Index offset = 0;
    try {
        if (!metadata.empty()) {
            header.append("\"").append(detail::metadata_key).append("\":");
            header += nlohmann::json(metadata).dump();
        }
        for (const TensorToWrite& tensor : tensors) {
            check<IoError>(names.insert(tensor.name).second, file, ": the tensor name '",
                           tensor.name, "' is given twice or reserved");
            const auto bytes = detail::tensor_bytes(tensor.dtype, tensor.shape);
            if (!bytes || std::cmp_not_equal(*bytes, tensor.bytes.size()) ||
                tensor.shape.size() > detail::max_rank) {
                fail<IoError>(file, ": tensor '", tensor.name, "' has ", tensor.bytes.size(),
                              " bytes, which do not fit its shape ",
                              nlohmann::json(tensor.shape).dump(), " of ", to_string(tensor.dtype));
            }
            const nlohmann::ordered_json entry{{"dtype", to_string(tensor.dtype)},
                                               {"shape", tensor.shape},
                                               {"data_offsets", {offset, offset + *bytes}}};
            header += header.size() > 1 ? "," : "";
            header += nlohmann::json(tensor.name).dump() + ":" + entry.dump();
            offset += *bytes;
        }
    } catch (const nlohmann::json::exception& error) {
        fail<IoError>(file,
                      ": a name or metadata text cannot be written: ", printable(error.what()));
    }
    header += "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    check<IoError>(header.size() <= detail::max_header_bytes, file, ": the header has ",
                   header.size(), " bytes, expected at most ", detail::max_header_bytes);

    write_file_atomically(path, [&](FileWriter& writer) {
        const std::uint64_t header_bytes = header.size();
        writer.write(&header_bytes, sizeof header_bytes);
        writer.write(header);
        for (const TensorToWrite& tensor : tensors) {
            writer.write(tensor.bytes.data(), tensor.bytes.size());
        }
    });
}

}  // namespace mor::io
