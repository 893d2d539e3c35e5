// SPDX-License-Identifier: Apache-2.0
#pragma once
// A finding of `keyagent doctor` as it is sent.

#include <string>

#include "agent/base/finding_kinds.h"
#include "agent/wire/keyagent.pb.h"

namespace keyagent::wire {

inline Diagnosis make_diagnosis(const FindingKind& kind, const std::string& text,
                                FixValues values = {}, const std::string& subject = {},
                                const std::string& kid = {}) {
  Diagnosis out;
  out.set_id(std::string(kind.id));
  out.set_severity(std::string(kind.severity));
  out.set_code(std::string(kind.code));
  out.set_kid(kid);
  out.set_subject(subject);
  out.set_text(text);
  auto cure = fix_of(kind, values);
  out.set_cure(cure.text);
  for (auto& each : cure.commands) out.add_commands(std::move(each));
  return out;
}

}  // namespace keyagent::wire
