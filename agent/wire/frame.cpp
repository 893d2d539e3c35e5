// SPDX-License-Identifier: Apache-2.0
#include "agent/wire/frame.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <utility>

#include "agent/base/error.h"

namespace keyagent::wire {
namespace {

// What a reader keeps between frames; a larger buffer served one large frame and is given back.
constexpr std::size_t kKeep = 16 * 1024;

std::size_t length_at(const std::uint8_t* header) {
  return std::size_t{header[0]} << 24 | std::size_t{header[1]} << 16 | std::size_t{header[2]} << 8 |
         std::size_t{header[3]};
}

void check_length(std::size_t length, std::size_t limit) {
  if (length == 0) throw Error(Code::kUsage, "an empty frame: every frame must carry one message");
  if (length > limit)
    throw Error(Code::kUsage, "a frame of " + std::to_string(length) + " bytes: the limit is " +
                                  std::to_string(limit));
}

}  // namespace

FrameReader::FrameReader(FrameReader&& other) noexcept
    : limit_(other.limit_),
      buffer_(std::move(other.buffer_)),
      begin_(std::exchange(other.begin_, 0)),
      end_(std::exchange(other.end_, 0)) {
  other.buffer_.clear();
}

FrameReader& FrameReader::operator=(FrameReader&& other) noexcept {
  limit_ = other.limit_;
  buffer_ = std::move(other.buffer_);
  other.buffer_.clear();
  begin_ = std::exchange(other.begin_, 0);
  end_ = std::exchange(other.end_, 0);
  return *this;
}

// Bytes that the frame at begin_ still needs before it is whole; 0 when its length is not known
// yet.
std::size_t FrameReader::wanted() const {
  if (pending() < kFrameHeader) return 0;
  const std::size_t whole = kFrameHeader + std::min(length_at(&buffer_[begin_]), limit_);
  return whole > pending() ? whole - pending() : 0;
}

void FrameReader::wipe_returned() {
  if (begin_ == 0) return;
  std::copy(buffer_.begin() + begin_, buffer_.begin() + end_, buffer_.begin());
  OPENSSL_cleanse(&buffer_[pending()], begin_);
  end_ -= begin_;
  begin_ = 0;
}

std::span<std::uint8_t> FrameReader::space(std::size_t least) {
  wipe_returned();
  const std::size_t room = std::max(least, wanted());
  if (buffer_.size() - end_ < room) buffer_.resize(end_ + room);
  return {buffer_.data() + end_, buffer_.size() - end_};
}

void FrameReader::commit(std::size_t count) {
  end_ += count;
}

std::optional<ByteView> FrameReader::next() {
  if (pending() < kFrameHeader) return std::nullopt;
  const std::size_t length = length_at(&buffer_[begin_]);
  check_length(length, limit_);
  if (pending() < kFrameHeader + length) return std::nullopt;
  const ByteView body(&buffer_[begin_ + kFrameHeader], length);
  begin_ += kFrameHeader + length;
  return body;
}

bool FrameReader::ready() const {
  if (pending() < kFrameHeader) return false;
  const std::size_t length = length_at(&buffer_[begin_]);
  return length == 0 || length > limit_ || pending() >= kFrameHeader + length;
}

FrameReader FrameReader::take_rest() {
  FrameReader rest(limit_);
  if (begin_ == 0) {
    std::swap(rest, *this);
  } else if (pending() > 0) {
    rest.buffer_.assign(buffer_.begin() + begin_, buffer_.begin() + end_);
    rest.end_ = pending();
    OPENSSL_cleanse(&buffer_[begin_], pending());
    end_ = begin_;
  }
  return rest;
}

void FrameReader::reset() {
  if (end_ > 0) OPENSSL_cleanse(buffer_.data(), end_);
  begin_ = end_ = 0;
  if (buffer_.size() > kKeep) SecretBytes().swap(buffer_);
}

std::array<std::uint8_t, kFrameHeader> frame_header(std::size_t size) {
  check_length(size, kMaxAnswer);
  return {static_cast<std::uint8_t>(size >> 24), static_cast<std::uint8_t>(size >> 16),
          static_cast<std::uint8_t>(size >> 8), static_cast<std::uint8_t>(size)};
}

void append_frame(SecretBytes& out, ByteView body) {
  const auto header = frame_header(body.size());
  out.insert(out.end(), header.begin(), header.end());
  out.insert(out.end(), body.begin(), body.end());
}

}  // namespace keyagent::wire
