// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parses the messages between instances, from any sender. Pure, thread-safe.
//
// Every function throws Error{kIntegrity} for an invalid message, and kUsage for JSON with missing
// members.

#include <string>

#include "agent/base/clock.h"
#include "agent/envelope/statement.h"
#include "agent/instance/common/json.h"

namespace keyagent::instance {

inline constexpr const char* kExchangeQuestion = "keyagent-exchange-message";
inline constexpr const char* kExchangeAnswer = "keyagent-exchange-answer";

// A message and the key that it claims to be signed by.
struct SignedMessage {
  std::string jws;
  std::string kid;  // of spki
  Bytes spki;
  std::string body;  // beside the JWS, which has its hash, where it is long; or empty
};
SignedMessage read_signed(const std::string& text);

// The payload of the JWS, verified with `spki` as this kind of statement.
Json verified_json(const Bytes& spki, const std::string& jws, envelope::Statement statement);
// The same of a message; its body is in it, wherever it was.
Json verified_message(const SignedMessage& message);
// A body of more bytes than this stands beside the JWS: the agent that signs reads no more at once.
inline constexpr std::size_t kMaxSignedBody = 96 * 1024;

// The payload is of this kind, from one identity for another.
void require_addressed(const Json& payload, const std::string& kind, const std::string& from,
                       const std::string& to);
// It is neither old nor from the future; clocks may differ by kExchangeSkew.
void require_in_time(const Json& payload, WallTime now);
inline constexpr std::chrono::minutes kExchangeSkew{5};

// Throws Error{kIntegrity} with the text `why`; `kid`: the identity that it concerns.
[[noreturn]] void refuse_message(const std::string& why, const std::string& kid = {});

// The event number that the JWS names, without verifying its signature; 0 for an empty text.
std::int64_t epoch_in(const std::string& jws);

}  // namespace keyagent::instance
