// SPDX-License-Identifier: Apache-2.0
#pragma once
// What may become of the instance's trust in an agent. A pure table.

#include <optional>
#include <string_view>

namespace keyagent::instance {

enum class Trust { kPending, kTrusted, kSuspended, kRevoked, kRejected };
enum class TrustVerb { kApprove, kReject, kSuspend, kResume, kRevoke };

std::string_view name_of(Trust trust);
std::optional<Trust> trust_of(std::string_view name);
std::string_view name_of(TrustVerb verb);
std::optional<TrustVerb> trust_verb_of(std::string_view name);

// nullopt: not from there. Where the verb has been carried out already, the same state: verbs may
// be repeated.
std::optional<Trust> after(Trust trust, TrustVerb verb);

}  // namespace keyagent::instance
