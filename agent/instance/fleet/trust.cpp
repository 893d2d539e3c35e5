// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/fleet/trust.h"

#include <utility>

namespace keyagent::instance {
namespace {

constexpr std::pair<Trust, std::string_view> kStates[] = {{Trust::kPending, "pending"},
                                                          {Trust::kTrusted, "trusted"},
                                                          {Trust::kSuspended, "suspended"},
                                                          {Trust::kRevoked, "revoked"},
                                                          {Trust::kRejected, "rejected"}};
constexpr std::pair<TrustVerb, std::string_view> kVerbs[] = {{TrustVerb::kApprove, "approve"},
                                                             {TrustVerb::kReject, "reject"},
                                                             {TrustVerb::kSuspend, "suspend"},
                                                             {TrustVerb::kResume, "resume"},
                                                             {TrustVerb::kRevoke, "revoke"}};

struct Step {
  Trust from;
  TrustVerb verb;
  Trust to;
};
// A revoked agent comes back only by a new enrollment with a token made for it; a rejected one may
// ask again.
constexpr Step kSteps[] = {{Trust::kPending, TrustVerb::kApprove, Trust::kTrusted},
                           {Trust::kTrusted, TrustVerb::kApprove, Trust::kTrusted},
                           {Trust::kPending, TrustVerb::kReject, Trust::kRejected},
                           {Trust::kRejected, TrustVerb::kReject, Trust::kRejected},
                           {Trust::kTrusted, TrustVerb::kSuspend, Trust::kSuspended},
                           {Trust::kSuspended, TrustVerb::kSuspend, Trust::kSuspended},
                           {Trust::kSuspended, TrustVerb::kResume, Trust::kTrusted},
                           {Trust::kTrusted, TrustVerb::kResume, Trust::kTrusted},
                           {Trust::kPending, TrustVerb::kRevoke, Trust::kRevoked},
                           {Trust::kTrusted, TrustVerb::kRevoke, Trust::kRevoked},
                           {Trust::kSuspended, TrustVerb::kRevoke, Trust::kRevoked},
                           {Trust::kRevoked, TrustVerb::kRevoke, Trust::kRevoked}};

template <class Table, class Value>
std::string_view find_name(const Table& table, Value value) {
  for (const auto& [each, name] : table) {
    if (each == value) return name;
  }
  return "unknown";
}

}  // namespace

std::string_view name_of(Trust trust) {
  return find_name(kStates, trust);
}

std::string_view name_of(TrustVerb verb) {
  return find_name(kVerbs, verb);
}

std::optional<Trust> trust_of(std::string_view name) {
  for (const auto& [trust, text] : kStates) {
    if (text == name) return trust;
  }
  return std::nullopt;
}

std::optional<TrustVerb> trust_verb_of(std::string_view name) {
  for (const auto& [verb, text] : kVerbs) {
    if (text == name) return verb;
  }
  return std::nullopt;
}

std::optional<Trust> after(Trust trust, TrustVerb verb) {
  for (const auto& step : kSteps) {
    if (step.from == trust && step.verb == verb) return step.to;
  }
  return std::nullopt;
}

}  // namespace keyagent::instance
