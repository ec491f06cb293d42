// SPDX-License-Identifier: Apache-2.0
//
// Named tensors of a backend to and from a safetensors file.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/core/error.hpp>
#include <mor/core/format.hpp>
#include <mor/core/reflect.hpp>
#include <mor/io/dtype.hpp>
#include <mor/io/json.hpp>
#include <mor/io/safetensors.hpp>

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mor::detail {

/// Collects tensors of a backend, copied to the host, and writes them in order.
template <Backend B>
class TensorWriter {
    using Element = typename B::Element;

public:
    void add(std::string name, std::vector<Index> shape, ConstVectorView<B> values) {
        values_.push_back(to_host(values));
        names_.push_back(std::move(name));
        shapes_.push_back(std::move(shape));
    }

    void write(const std::filesystem::path& path) const {
        std::vector<io::TensorToWrite> tensors;
        for (std::size_t i = 0; i < names_.size(); ++i) {
            tensors.push_back({names_[i], io::dtype_of<Element>, shapes_[i],
                               std::as_bytes(std::span{values_[i]})});
        }
        io::write_safetensors(path, tensors);
    }

private:
    std::vector<std::string> names_;
    std::vector<std::vector<Index>> shapes_;
    std::vector<std::vector<Element>> values_;
};

/// Hands out a file's tensors one by one, and insists that each is asked for.
template <Backend B>
class TensorReader {
    using Element = typename B::Element;

public:
    explicit TensorReader(const std::filesystem::path& path) : path_{path.string()}, file_{path} {
        for (const auto& [name, info] : file_.tensors()) {
            unread_.push_back(name);
            Index elements = 1;
            for (const Index extent : info.shape) {
                elements *= extent;  // the reader has checked that this fits
            }
            num_elements_ += elements;
        }
    }

    [[nodiscard]] Index num_tensors() const { return std::ssize(file_.tensors()); }
    [[nodiscard]] Index num_elements() const { return num_elements_; }

    /// Throws IoError naming file and tensor if it is missing or of another shape or kind.
    void read(const std::string& name, const std::vector<Index>& shape, VectorView<B> out) {
        const io::TensorInfo* const info = file_.find(name);
        if (info == nullptr) {
            // Names of a hostile file may be long: those near to ours are not.
            std::erase_if(unread_,
                          [&](const std::string& other) { return other.size() > 2 * name.size(); });
            const std::string nearest = io::printable(nearest_name(name, unread_));
            fail<IoError>(path_, ": tensor '", name, "' is missing",
                          nearest.empty() ? "" : "; the nearest name is '", nearest,
                          nearest.empty() ? "" : "'");
        }
        check<IoError>(info->shape == shape, path_, ": tensor '", name, "' is ",
                       format_extents(info->shape), ", the model expects ", format_extents(shape));
        from_host(out, file_.template read_as<Element>(name));
        std::erase(unread_, name);
    }

    /// Throws IoError naming the first tensor that nobody asked for.
    void expect_all_read() const {
        check<IoError>(unread_.empty(), path_, ": tensor '",
                       unread_.empty() ? "" : io::printable(unread_.front()),
                       "' does not belong to this model");
    }

private:
    std::string path_;
    io::SafetensorsFile file_;
    std::vector<std::string> unread_;
    Index num_elements_ = 0;
};

}  // namespace mor::detail
