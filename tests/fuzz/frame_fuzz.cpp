// SPDX-License-Identifier: Apache-2.0
// The framing: whatever arrives, in pieces of whatever size, no byte outside the buffer is touched
// and every frame that comes out has an allowed size.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "agent/base/error.h"
#include "agent/wire/frame.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace keyagent;
  if (size < 2) return 0;
  const std::size_t piece = 1 + data[0];
  const bool split = (data[1] & 1) != 0;
  wire::FrameReader reader;
  try {
    for (std::size_t at = 2; at < size;) {
      const auto room = reader.space(1 + data[1]);
      const std::size_t count = std::min({piece, room.size(), size - at});
      std::copy_n(data + at, count, room.begin());
      reader.commit(count);
      at += count;
      while (const auto body = reader.next()) {
        if (body->empty() || body->size() > wire::kMaxFrame) std::abort();
        if (split) reader = reader.take_rest();
      }
    }
  } catch (const Error&) {
  }
  return 0;
}
