// SPDX-License-Identifier: Apache-2.0
// Statements that a process asks the agent to sign: the agent accepts one object with known
// members, of one kind; everything else is DENIED.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "agent/base/error.h"
#include "agent/envelope/statement.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace keyagent;
  using envelope::Statement;
  static const Kid own(std::string(43, 'A'));
  static const WallTime now = parse_rfc3339("2026-11-21T12:00:00.000Z");
  constexpr Statement kKinds[] = {Statement::kExchangeMessage, Statement::kExchangeTranscript,
                                  Statement::kRotation, Statement::kEpoch};
  const ByteView text(data, size);
  int kinds = 0;
  for (const auto kind : kKinds) {
    try {
      envelope::require_statement(kind, text, own, now);
      ++kinds;
    } catch (const Error& error) {
      if (error.code() != Code::kDenied) std::abort();
      continue;
    }
    const auto said = nlohmann::json::parse(text.begin(), text.end());
    if (!said.is_object() || said.empty()) std::abort();
    if (kind == Statement::kExchangeMessage && said.at("from") != own.text()) std::abort();
  }
  if (kinds > 1) std::abort();  // one text, one meaning
  return 0;
}
