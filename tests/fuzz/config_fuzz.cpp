// SPDX-License-Identifier: Apache-2.0
// The configuration: whatever stands in the file, the answer is a configuration or one kind of
// error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "agent/base/bytes.h"
#include "agent/base/error.h"
#include "agent/config/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace keyagent;
  try {
    const auto config = config::parse_config(as_text({data, size}), "/fuzz/keyagentd.yml");
    if (!config.state_folder.is_absolute() || !config.policy.is_absolute()) std::abort();
    if (config.socket_mode > 0777 || config.profile.modules.empty()) std::abort();
  } catch (const Error& error) {
    if (error.code() != Code::kConfiguration) std::abort();
  }
  return 0;
}
