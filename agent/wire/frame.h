// SPDX-License-Identifier: Apache-2.0
#pragma once
// Frames on the unix socket: a 4-byte big-endian length, then that many bytes of one protobuf
// message (PROTOCOL.md).

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "agent/base/bytes.h"

namespace keyagent::wire {

inline constexpr std::size_t kMaxFrame = 256 * 1024;  // body of a request, in bytes
inline constexpr std::size_t kMaxAnswer =
    16 * 1024 * 1024;  // body of an answer (a list of all keys)
inline constexpr std::size_t kFrameHeader = 4;

// Collects bytes as they arrive and gives whole frames out. Not thread-safe. Holds at most one
// maximal frame and what one read brought beyond it; wiped on destruction, because a frame may
// carry a plaintext.
class FrameReader {
 public:
  explicit FrameReader(std::size_t limit = kMaxFrame) : limit_(limit) {}
  FrameReader(FrameReader&& other) noexcept;
  FrameReader& operator=(FrameReader&& other) noexcept;

  // Space to read into, at least `least` bytes; call commit() with the number that arrived. Does
  // not grow beyond the announced frame.
  std::span<std::uint8_t> space(std::size_t least = 4096);
  // REQUIRES: count is at most the size that space() gave.
  void commit(std::size_t count);
  // The next whole frame's body, valid until the next call of any method but take_rest() and
  // pending(); nullopt when more bytes are needed. Throws Error{kUsage} for an empty frame or one
  // over the limit: the connection must be closed then.
  std::optional<ByteView> next();
  // Will next() give a frame, or throw?
  bool ready() const;
  // Bytes of memory that it takes, used or not.
  std::size_t memory() const { return buffer_.size(); }
  // Bytes held that are not yet part of a returned frame.
  std::size_t pending() const { return end_ - begin_; }
  // Moves the bytes after the last returned frame to a separate reader, so that another thread can
  // continue with them. The last returned frame stays valid.
  FrameReader take_rest();
  // Wipes what was used and keeps the memory for the next frame if it is small.
  void reset();

 private:
  void wipe_returned();
  std::size_t wanted() const;

  std::size_t limit_;
  SecretBytes buffer_;
  std::size_t begin_ = 0, end_ = 0;
};

// The header of a frame with a body of `size` bytes. Throws Error{kUsage} when `size` is 0 or over
// kMaxAnswer.
std::array<std::uint8_t, kFrameHeader> frame_header(std::size_t size);

// Header and body of one message. Throws Error{kUsage} when `body` is empty or over kMaxAnswer.
void append_frame(SecretBytes& out, ByteView body);

}  // namespace keyagent::wire
