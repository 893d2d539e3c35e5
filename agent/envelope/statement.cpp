// SPDX-License-Identifier: Apache-2.0
#include "agent/envelope/statement.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/strict_json.h"
#include "agent/envelope/envelope.h"

namespace keyagent::envelope {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;

constexpr JsonLimits kLimits{kMaxStatement, 8};
constexpr auto kSkew = 5min;
constexpr auto kMaxMessageLife = 10min;
constexpr std::size_t kKidSize = 43, kMaxId = 63, kMaxJws = 16 * 1024;

struct Kind {
  Statement statement;
  std::string_view type;
  Purpose signer;
};
constexpr std::array<Kind, 4> kKinds{{
    {Statement::kExchangeMessage, "keyagent-exchange-message+jws", Purpose::kIdentity},
    {Statement::kExchangeTranscript, "keyagent-exchange-transcript+jws", Purpose::kIdentity},
    {Statement::kRotation, "keyagent-rotation+jws", Purpose::kConfirm},
    {Statement::kEpoch, "keyagent-epoch+jws", Purpose::kConfirm},
}};

const Kind& kind_of(Statement statement) {
  return *std::find_if(kKinds.begin(), kKinds.end(),
                       [&](const auto& each) { return each.statement == statement; });
}

[[noreturn]] void refuse(const std::string& why) {
  throw Error(Code::kDenied, "the statement is not signed: " + why);
}

bool in_alphabet(std::string_view text, std::string_view more) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           more.find(c) != std::string_view::npos;
  });
}

// One object whose members are each asked for once, and none is left.
class Members {
 public:
  explicit Members(const Json& object) : object_(object) {}

  const Json& any(const char* name) {
    const auto it = object_.find(name);
    if (it == object_.end()) refuse(std::string("it has no \"") + name + "\"");
    ++seen_;
    return *it;
  }
  std::string text(const char* name) {
    const Json& value = any(name);
    if (!value.is_string()) refuse_member(name, "is not a string");
    return value.get<std::string>();
  }
  void exactly(const char* name, const std::string& expected) {
    if (text(name) != expected) refuse_member(name, "is not " + expected);
  }
  void format() {
    const Json& value = any("format");
    if (!value.is_number_integer() || value != 1) refuse_member("format", "is not 1");
  }
  void one_of(const char* name, std::initializer_list<const char*> known) {
    const auto value = text(name);
    if (std::find(known.begin(), known.end(), value) == known.end())
      refuse_member(name, "is not known to this agent");
  }
  // base64url of 32 bytes: a thumbprint or a hash.
  std::string hash(const char* name) {
    const auto value = text(name);
    if (value.size() != kKidSize || !in_alphabet(value, "-_")) refuse_member(name, "is not a hash");
    return value;
  }
  // As agents and instances are called.
  void id(const char* name) {
    const auto value = text(name);
    const bool fits =
        !value.empty() && value.size() <= kMaxId && in_alphabet(value, ".-") &&
        std::none_of(value.begin(), value.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
    if (!fits) refuse_member(name, "is not an id");
  }
  WallTime time(const char* name) {
    const auto value = text(name);
    try {
      const WallTime parsed = parse_rfc3339(value);
      if (rfc3339(parsed) == value) return parsed;  // one text for one time
    } catch (const Error&) {
    }
    refuse_member(name, "is not a time");
  }
  WallTime near(const char* name, WallTime now) {
    const WallTime value = time(name);
    if (value < now - kSkew || value > now + kSkew)
      refuse_member(name, "is not the current time: here it is " + rfc3339(now));
    return value;
  }
  // A JWS that is passed on, or nothing.
  void jws(const char* name) {
    const auto value = text(name);
    if (value.size() > kMaxJws || !in_alphabet(value, "-_.")) refuse_member(name, "is not a JWS");
  }
  void number(const char* name) {
    if (!any(name).is_number_unsigned()) refuse_member(name, "is not a number");
  }
  bool has(const char* name) const { return object_.contains(name); }
  void finish() const {
    if (seen_ != object_.size()) refuse("it has members unknown to this agent");
  }

  [[noreturn]] static void refuse_member(const char* name, const std::string& why) {
    refuse(std::string("its \"") + name + "\" " + why);
  }

 private:
  const Json& object_;
  std::size_t seen_ = 0;
};

void require_message(Members& members, const Kid& key, WallTime now) {
  members.format();
  members.one_of("kind", {"keyagent-exchange-message", "keyagent-exchange-answer"});
  members.one_of("type", {"check", "request", "fetch", "results", "end"});
  members.exactly("from", key.text());
  if (members.hash("to") == key.text()) Members::refuse_member("to", "is its own sender");
  const auto nonce = members.text("nonce");
  if (nonce.size() < 22 || nonce.size() > 64 || !in_alphabet(nonce, "-_"))
    Members::refuse_member("nonce", "must have at least 16 random bytes");
  const WallTime issued = members.near("issued", now), expires = members.time("expires");
  if (expires <= issued || expires > issued + kMaxMessageLife)
    Members::refuse_member("expires", "is not within ten minutes");
  members.jws("epoch");
  members.jws("known");
  if (members.has("body_sha256")) {
    members.hash("body_sha256");
  } else if (!members.any("body").is_object()) {
    Members::refuse_member("body", "is not an object");
  }
}

void require_transcript(Members& members) {
  members.format();
  members.exactly("kind", "keyagent-exchange-transcript");
  const auto request = members.text("request");
  if (request.size() != 32 || !from_hex(request))
    Members::refuse_member("request", "is not 32 hexadecimal digits");
  members.hash("transcript");
}

void require_rotation(Members& members, WallTime now) {
  members.id("agent");
  if (members.hash("old_kid") == members.hash("new_kid"))
    Members::refuse_member("new_kid", "is the previous one");
  members.near("at", now);
}

void require_epoch(Members& members, WallTime now) {
  members.id("instance");
  members.number("epoch");
  members.near("at", now);
}

}  // namespace

std::string_view type_of(Statement statement) {
  return kind_of(statement).type;
}

std::optional<Statement> statement_of_type(std::string_view type) {
  for (const auto& each : kKinds) {
    if (each.type == type) return each.statement;
  }
  return std::nullopt;
}

Purpose signer_of(Statement statement) {
  return kind_of(statement).signer;
}

void require_statement(Statement statement, ByteView payload, const Kid& key, WallTime now) {
  const auto object = parse_strict_object(as_text(payload), kLimits);
  if (!object) refuse("it is not a JSON object of at most 240 KiB with unique names");
  Members members(*object);
  switch (statement) {
    case Statement::kExchangeMessage:
      require_message(members, key, now);
      break;
    case Statement::kExchangeTranscript:
      require_transcript(members);
      break;
    case Statement::kRotation:
      require_rotation(members, now);
      break;
    case Statement::kEpoch:
      require_epoch(members, now);
      break;
  }
  members.finish();
}

Bytes verify_statement(const PublicKeyInfo& key, std::string_view jws, Statement statement) {
  const auto bytes = from_base64url(jws.substr(0, jws.find('.')));
  const auto header = bytes ? parse_strict_object(as_text(*bytes), kLimits) : std::nullopt;
  const bool typed = header && header->contains("typ");
  return verify_jws(key, jws, typed ? type_of(statement) : std::string_view());
}

}  // namespace keyagent::envelope
