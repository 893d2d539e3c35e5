#pragma once
// Frames on the unix socket: a 4-byte big-endian length, then that many bytes of one protobuf message (PROTOCOL.md).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "agent/base/bytes.h"

namespace keyagent::wire {

inline constexpr std::size_t kMaxFrame = 256 * 1024;  // body, in bytes
inline constexpr std::size_t kFrameHeader = 4;

// Collects bytes as they arrive and gives whole frames out. Not thread-safe. Holds at most one maximal frame and what one read
// brought beyond it; wiped on destruction, because a frame may carry a plaintext.
class FrameReader {
 public:
  // Space to read into, at least `least` bytes; commit() says how many arrived. Grows no further than the frame announced.
  std::span<std::uint8_t> space(std::size_t least = 4096);
  void commit(std::size_t count);
  // The next whole frame's body, valid until the next call of any method; nullopt when more bytes are needed.
  // Throws Error{kUsage} for an empty frame or one over kMaxFrame: the connection must be closed then.
  std::optional<ByteView> next();
  // Bytes held that are not yet part of a returned frame.
  std::size_t pending() const;

 private:
  SecretBytes buffer_;
  std::size_t begin_ = 0, end_ = 0;
};

// Header and body of one message. Throws Error{kUsage} when `body` is over kMaxFrame.
void append_frame(SecretBytes& out, ByteView body);

}  // namespace keyagent::wire
