// SPDX-License-Identifier: Apache-2.0
//
// What a command queue asks of a device's runtime, and the host memory that uploads go through.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <utility>

namespace mor::cuda {

/// What a command queue asks of the device's runtime. Host memory that uploads are made of is
/// `staging`: `upload` returns at once and reads it when the device comes to it. An Event tells
/// when the device has come to where it was recorded. A Graph is what hand_over() hands over,
/// recorded and not run, so that launch() runs it again and again.
template <class D>
concept CommandDevice = requires(std::size_t bytes, void* p, const void* staged,
                                 typename D::Event& event, typename D::Graph& graph) {
    { D::allocate_staging(bytes) } -> std::same_as<void*>;
    { D::free_staging(p) } noexcept;
    D::upload(p, staged, bytes);
    requires std::default_initializable<typename D::Event>;
    event.record();
    event.wait();
    requires std::constructible_from<typename D::Graph, void (*)()>;
    graph.launch();
};

namespace detail {

template <class Event>
void wait_or_give_up(Event& event) noexcept {
    try {
        event.wait();
    } catch (...) {  // a device that fails reads nothing any more
    }
}

/// Host memory for the contents of uploads, filled again when the device has read it.
template <CommandDevice D>
class Staging {
public:
    Staging() = default;
    Staging(const Staging&) = delete;
    Staging& operator=(const Staging&) = delete;
    ~Staging() {
        wait_for_readers();
        if (data_ != nullptr) {
            D::free_staging(data_);
        }
    }

    /// The address is the same for as many bytes or fewer.
    std::byte* fill(const void* source, std::size_t bytes) {
        if (std::exchange(is_read_, false)) {
            event_.wait();
        }
        if (bytes > bytes_) {
            if (data_ != nullptr) {
                D::free_staging(std::exchange(data_, nullptr));
                bytes_ = 0;
            }
            data_ = static_cast<std::byte*>(D::allocate_staging(bytes));
            bytes_ = bytes;
        }
        if (bytes > 0) {
            std::memcpy(data_, source, bytes);
        }
        return data_;
    }
    /// All that reads it has been handed over.
    void was_handed_over() {
        event_.record();
        is_read_ = true;
    }
    void wait_for_readers() noexcept {
        if (std::exchange(is_read_, false)) {
            wait_or_give_up(event_);
        }
    }

private:
    std::byte* data_ = nullptr;
    std::size_t bytes_ = 0;
    bool is_read_ = false;
    typename D::Event event_;
};

/// A piece of host memory, taken once, that uploads one after another go through. Its parts are
/// filled in turn, each when the device has read what it held before.
template <CommandDevice D>
class StagingRing {
public:
    static constexpr std::size_t part_bytes = std::size_t{1} << 20;

    StagingRing() = default;
    StagingRing(const StagingRing&) = delete;
    StagingRing& operator=(const StagingRing&) = delete;
    ~StagingRing() {
        for (Part& part : parts_) {
            if (part.is_read) {
                wait_or_give_up(part.event);
            }
        }
        if (data_ != nullptr) {
            D::free_staging(data_);
        }
    }

    /// A copy of the bytes that stays until the device has come to what is handed over before the
    /// next call. More than a part has memory of its own.
    [[nodiscard]] std::byte* place(const void* source, std::size_t bytes) {
        if (bytes > part_bytes) {
            large_.was_handed_over();  // what read it before
            return large_.fill(source, bytes);
        }
        if (data_ == nullptr) {
            data_ = static_cast<std::byte*>(D::allocate_staging(parts_.size() * part_bytes));
        }
        if (used_ + bytes > part_bytes) {
            parts_[current_].event.record();
            parts_[current_].is_read = true;
            current_ = (current_ + 1) % parts_.size();
            used_ = 0;
            if (std::exchange(parts_[current_].is_read, false)) {
                parts_[current_].event.wait();
            }
        }
        std::byte* const place = data_ + current_ * part_bytes + used_;
        if (bytes > 0) {
            std::memcpy(place, source, bytes);
        }
        used_ += (bytes + alignment - 1) / alignment * alignment;
        return place;
    }

private:
    static constexpr std::size_t alignment = 16;
    struct Part {
        typename D::Event event;
        bool is_read = false;
    };

    std::byte* data_ = nullptr;
    std::array<Part, 4> parts_;
    std::size_t current_ = 0;
    std::size_t used_ = 0;  // of the current part
    Staging<D> large_;
};

}  // namespace detail

}  // namespace mor::cuda
