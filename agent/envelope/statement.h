// SPDX-License-Identifier: Apache-2.0
#pragma once
// Statements that attestation keys sign, each kind with a separate JWS "typ". The agent of the
// signing key parses a text with this before it signs it, so that a caller cannot have it sign
// anything else (RELIABILITY 144). Pure, thread-safe.

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/base/key_ops.h"

namespace keyagent::envelope {

enum class Statement {
  kExchangeMessage,     // identity: a message between instances
  kExchangeTranscript,  // identity: both ends' result of an exchange
  kRotation,            // confirm: an agent's new transport key is trusted
  kEpoch                // confirm: how far an instance's store has come
};
inline constexpr std::size_t kMaxStatement = 240 * 1024;

// The "typ" of its JWS: "keyagent-exchange-message+jws" …
std::string_view type_of(Statement statement);
std::optional<Statement> statement_of_type(std::string_view type);
// The purpose of the keys that sign it.
Purpose signer_of(Statement statement);

// Throws Error{kDenied} unless `payload` is exactly such a statement: one JSON object with exactly
// these members, each of its form, issued by `key` at `now` (± five minutes).
void require_statement(Statement statement, ByteView payload, const Kid& key, WallTime now);

// The payload of a statement's JWS, or Error{kIntegrity}. A JWS without "typ" is taken too: agents
// and instances before 0.2 made such, and keep them.
Bytes verify_statement(const PublicKeyInfo& key, std::string_view jws, Statement statement);

}  // namespace keyagent::envelope
