// SPDX-License-Identifier: Apache-2.0
#pragma once
// What instances say to each other, as text: reading it, whoever sent it. Pure, thread-safe.
//
// Every function throws Error{kIntegrity} for what is not so, and kUsage for JSON that lacks
// something.

#include <string>

#include "agent/base/clock.h"
#include "agent/envelope/statement.h"
#include "agent/instance/common/json.h"

namespace keyagent::instance {

inline constexpr const char* kExchangeQuestion = "keyagent-exchange-message";
inline constexpr const char* kExchangeAnswer = "keyagent-exchange-answer";

// A message with the key that it is said to be signed by.
struct SignedMessage {
  std::string jws;
  std::string kid;  // of spki
  Bytes spki;
  std::string body;  // beside the JWS, which has its hash, where it is long; or empty
};
SignedMessage read_signed(const std::string& text);

// What the JWS says, which `spki` signed as this statement.
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

// Throws Error{kIntegrity} with these words; `kid` is the identity that they are about.
[[noreturn]] void refuse_message(const std::string& why, const std::string& kid = {});

// The number of an event that the JWS names, whoever signed it; 0 for an empty text.
std::int64_t epoch_in(const std::string& jws);

}  // namespace keyagent::instance
