// SPDX-License-Identifier: Apache-2.0
// The messages: what parses as a Request survives being written and read again; wiping touches
// nothing else.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "agent/wire/keyagent.pb.h"
#include "agent/wire/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace keyagent;
  wire::Request request, again;
  if (!wire::parse({data, size}, request)) return 0;
  if (!wire::parse(wire::serialize(request), again) || again.op_case() != request.op_case())
    std::abort();
  wire::repeatable(request);
  wire::wipe(request);
  return 0;
}
