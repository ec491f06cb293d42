// SPDX-License-Identifier: Apache-2.0
//
// The header of a safetensors file: JSON of a fixed form, read without building a tree of it.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/types.hpp>
#include <mor/io/dtype.hpp>
#include <mor/io/json.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mor::io::detail {

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

}  // namespace mor::io::detail
