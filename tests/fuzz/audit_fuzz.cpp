// SPDX-License-Identifier: Apache-2.0
// The audit log's verifier reads what an attacker may have written, and the writer takes names that
// one chose: what it writes is one line, reads back, and chains.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "agent/audit/record.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace keyagent;
  const std::string_view text = as_text({data, size});
  audit::parse_line(text);
  audit::parse_external(text);

  audit::Event event;
  event.what = "open";
  event.key = text;
  event.detail = text;
  const auto line = audit::format_event(7, WallTime{}, std::string(audit::kGenesis), event);
  const auto record = audit::parse_line(line);
  if (line.find('\n') != std::string::npos) std::abort();
  if (!record || !record->hash_fits || record->seq != 7 || record->prev != audit::kGenesis)
    std::abort();
  return 0;
}
