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

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <optional>
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

inline constexpr std::string_view metadata_key = "__metadata__";
inline constexpr std::uint64_t max_header_bytes = 100'000'000;  // as in the format's reference
inline constexpr std::size_t max_rank = 64;

/// The bytes that a tensor takes; none if an extent is negative or the count overflows.
inline std::optional<Index> tensor_bytes(DType dtype, const std::vector<Index>& shape) {
    Index bytes = size_bytes(dtype);
    for (const Index extent : shape) {
        if (extent < 0 || (extent > 0 && bytes > std::numeric_limits<Index>::max() / extent)) {
            return std::nullopt;
        }
        bytes *= extent;
    }
    return bytes;
}

/// A tensor as the header describes it: its bytes are [begin, end) of the data section.
struct HeaderEntry {
    DType dtype = DType::f32;
    std::vector<Index> shape;
    std::vector<std::uint64_t> offsets;
};

/// Reads the header event by event and accepts nothing but what the format allows, so that
/// neither nesting nor length of a hostile header costs memory.
class HeaderReader final : public nlohmann::json::json_sax_t {
public:
    explicit HeaderReader(std::string file) : file_{std::move(file)} {}

    std::map<std::string, HeaderEntry> entries;
    std::map<std::string, std::string> metadata;

    bool null() override { refuse("null"); }
    bool boolean(bool /*value*/) override { refuse("a boolean"); }
    bool number_integer(number_integer_t value) override { refuse(std::to_string(value)); }
    bool number_float(number_float_t /*value*/, const string_t& text) override {
        refuse(printable(text));
    }
    bool binary(binary_t& /*value*/) override { refuse("binary data"); }

    bool number_unsigned(number_unsigned_t value) override {
        if (place_ == Place::shape) {
            auto& shape = entry_->second.shape;
            check<IoError>(shape.size() < max_rank, where(), ": more than ", max_rank, " extents");
            if (value > static_cast<std::uint64_t>(std::numeric_limits<Index>::max())) {
                refuse(std::to_string(value));
            }
            shape.push_back(static_cast<Index>(value));
        } else if (place_ == Place::offsets && entry_->second.offsets.size() < 2) {
            entry_->second.offsets.push_back(value);
        } else {
            refuse(std::to_string(value));
        }
        return true;
    }

    bool string(string_t& value) override {
        if (place_ == Place::metadata) {
            metadata[key_] = value;
        } else if (place_ == Place::tensor && key_ == "dtype") {
            const auto dtype = dtype_from_name(value);
            if (!dtype) {
                fail<IoError>(where(), ": unknown dtype '", printable(value), "'");
            }
            entry_->second.dtype = *dtype;
        } else {
            refuse(std::string{"'"}.append(printable(value)).append("'"));
        }
        return true;
    }

    bool start_object(std::size_t /*size*/) override {
        if (place_ == Place::outside) {
            place_ = Place::header;
        } else if (place_ == Place::header && key_ == metadata_key) {
            place_ = Place::metadata;
        } else if (place_ == Place::header) {
            entry_ = entries.try_emplace(key_).first;
            seen_fields_.clear();
            place_ = Place::tensor;
        } else {
            refuse("an object");
        }
        return true;
    }

    bool key(string_t& name) override {
        key_ = name;
        if (place_ == Place::header) {
            const bool known =
                name == metadata_key ? std::exchange(seen_metadata_, true) : entries.contains(name);
            check<IoError>(!known, file_, ": the header names '", printable(name), "' twice");
        } else if (place_ == Place::metadata) {
            check<IoError>(!metadata.contains(name), file_, ": the metadata name '",
                           printable(name), "' twice");
        } else {
            check<IoError>(name == "dtype" || name == "shape" || name == "data_offsets", where(),
                           ": unknown field");
            check<IoError>(seen_fields_.insert(name).second, where(), ": given twice");
        }
        return true;
    }

    bool end_object() override {
        if (place_ == Place::tensor) {
            for (const char* field : {"dtype", "shape", "data_offsets"}) {
                check<IoError>(seen_fields_.contains(field), file_, ": tensor '",
                               printable(entry_->first), "': '", field, "' is missing");
            }
        }
        place_ = place_ == Place::header ? Place::outside : Place::header;
        return true;
    }

    bool start_array(std::size_t /*size*/) override {
        if (place_ == Place::tensor && key_ == "shape") {
            place_ = Place::shape;
        } else if (place_ == Place::tensor && key_ == "data_offsets") {
            place_ = Place::offsets;
        } else {
            refuse("an array");
        }
        return true;
    }

    bool end_array() override {
        check<IoError>(place_ != Place::offsets || entry_->second.offsets.size() == 2, where(),
                       ": expected two integers");
        place_ = Place::tensor;
        return true;
    }

    bool parse_error(std::size_t position, const std::string& /*token*/,
                     const nlohmann::json::exception& error) override {
        fail<IoError>(file_, ": the header is not valid JSON at its byte ", position, ": ",
                      printable(error.what()));
    }

private:
    enum class Place { outside, header, metadata, tensor, shape, offsets };

    [[nodiscard]] std::string where() const {
        return file_ + ": tensor '" + printable(entry_->first) + "': '" + printable(key_) + "'";
    }

    [[noreturn]] void refuse(const std::string& found) const {
        switch (place_) {
            case Place::outside:
                fail<IoError>(file_, ": the header is not a JSON object");
            case Place::header:
                fail<IoError>(file_, ": the header describes '", printable(key_), "' by ", found,
                              ", expected an object");
            case Place::metadata:
                fail<IoError>(file_, ": the metadata '", printable(key_), "' is ", found,
                              ", expected a string");
            case Place::tensor:
                fail<IoError>(where(), ": found ", found, ", expected ",
                              key_ == "dtype" ? "a string" : "an array");
            case Place::shape:
                fail<IoError>(where(), ": found ", found, ", expected integers from 0 to ",
                              std::numeric_limits<Index>::max());
            case Place::offsets:
                break;
        }
        fail<IoError>(where(), ": found ", found, ", expected two integers from 0 up");
    }

    std::string file_;
    Place place_ = Place::outside;
    std::string key_;
    std::map<std::string, HeaderEntry>::iterator entry_;
    std::set<std::string, std::less<>> seen_fields_;
    bool seen_metadata_ = false;
};

/// The number an element stands for.
template <class Stored>
constexpr auto decode(Stored stored) {
    if constexpr (std::same_as<Stored, F16> || std::same_as<Stored, Bf16>) {
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
        const auto who = [&] { return path_ + ": tensor '" + detail::printable(name) + "'"; };
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
            check<IoError>(begin >= expected, path_, ": the tensors '", detail::printable(previous),
                           "' and '", detail::printable(name), "' overlap");
            check<IoError>(begin == expected, path_, ": ", begin - expected,
                           " bytes before tensor '", detail::printable(name),
                           "' belong to no tensor");
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
                      detail::printable(nearest_name(name, names)), names.empty() ? "" : "'");
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
        fail<IoError>(
            file, ": a name or metadata text cannot be written: ", detail::printable(error.what()));
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
