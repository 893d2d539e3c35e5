// SPDX-License-Identifier: Apache-2.0
#include "agent/exchange/package.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/strict_json.h"
#include "agent/envelope/envelope.h"

namespace keyagent::exchange {
namespace {

using Json = nlohmann::json;

constexpr JsonLimits kLimits{kMaxPackage, 3};
constexpr std::size_t kSecretKid = 32;  // characters of a secret key's kid
constexpr std::size_t kMaxRequest = 64, kMaxSpecification = 41;

[[noreturn]] void refuse(const std::string& why) {
  throw Error(Code::kIntegrity, "invalid key-exchange message: " + why);
}

bool is_lower(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}
bool is_request_id(std::string_view text) {
  const auto plain = [](char c) { return is_lower(c) || (c >= 'A' && c <= 'Z'); };
  return !text.empty() && text.size() <= kMaxRequest && plain(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return plain(c) || c == '.' || c == '_' || c == '-'; });
}
bool is_specification(std::string_view text) {
  return !text.empty() && text.size() <= kMaxSpecification && is_lower(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return is_lower(c) || c == '.' || c == '_' || c == '-'; });
}

// One object whose members are asked for each once, and none is left.
class Members {
 public:
  Members(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object_.is_object()) refuse(where_ + " is not an object");
  }
  const Json& any(const char* name) {
    const auto it = object_.find(name);
    if (it == object_.end()) refuse(where_ + " has no \"" + name + "\"");
    ++seen_;
    return *it;
  }
  std::string text(const char* name) {
    const Json& value = any(name);
    if (!value.is_string()) refuse(std::string("\"") + name + "\" is not a string");
    return value.get<std::string>();
  }
  Kid kid(const char* name) {
    const auto kid = Kid::parse(text(name));
    if (!kid) refuse(std::string("\"") + name + "\" is not a kid");
    return *kid;
  }
  WallTime time(const char* name) {
    const std::string value = text(name);
    try {
      // One text for one time, or a signed copy could differ from another.
      const WallTime parsed = parse_rfc3339(value);
      if (rfc3339(parsed) == value) return parsed;
    } catch (const Error&) {
    }
    refuse(std::string("\"") + name + "\" is not a time");
  }
  void format() {
    const Json& value = any("format");
    if (!value.is_number_integer() || value != 1) refuse("its format is not 1");
  }
  void finish() const {
    if (seen_ != object_.size()) refuse(where_ + " has unknown members");
  }

 private:
  const Json& object_;
  const std::string where_;
  std::size_t seen_ = 0;
};

std::string name_of_hash(OaepHash hash) {
  return hash == OaepHash::kSha1 ? "sha1" : "sha256";
}
OaepHash hash_named(const std::string& name) {
  if (name == "sha256") return OaepHash::kSha256;
  if (name == "sha1") return OaepHash::kSha1;
  refuse("\"oaep\" is neither sha1 nor sha256");
}

Json parse_object(std::string_view payload) {
  auto object = parse_strict_object(payload, kLimits);
  if (!object) refuse("not a JSON object with unique names");
  return std::move(*object);
}

void read_key(const Json& object, Package& out) {
  Members key(object, "\"key\"");
  out.kid = key.kid("kid");
  if (out.kid.text().size() != kSecretKid) refuse("the key's \"kid\" is the kid of a public key");
  if (key.text("algorithm") != name_of(KeyAlgorithm::kAes256))
    refuse("the key's algorithm is not aes-256");
  out.created = key.time("created");
  const auto state = key_state_of(key.text("state"));
  if (state != KeyState::kActive && state != KeyState::kDeactivated)
    refuse("the key's state is neither active nor deactivated");
  out.state = *state;
  key.finish();
}

std::string sign(KeyOps& ops, const PublicKeyInfo& identity, const Json& payload,
                 std::string_view type) {
  const auto algorithm = default_signature(identity.algorithm);
  if (!algorithm)
    throw Error(Code::kUsage, "key " + identity.name + " does not sign", identity.kid.text());
  return envelope::sign_jws(ops, identity, *algorithm, as_bytes(payload.dump()), type);
}

}  // namespace

void require_request_id(std::string_view text) {
  if (!is_request_id(text))
    throw Error(Code::kUsage, "a request's id is 1 to 64 of A-Z a-z 0-9 . _ -");
}

void require_specification(std::string_view text) {
  if (!is_specification(text))
    throw Error(Code::kUsage, "a specification's name is 1 to 41 of a-z 0-9 . _ -");
}

std::string sign_package(KeyOps& ops, const PublicKeyInfo& identity, const Package& package) {
  const Json payload{{"format", 1},
                     {"request", package.request},
                     {"specification", package.specification},
                     {"source", package.source.text()},
                     {"target", package.target.text()},
                     {"exchange_kid", package.exchange_kid.text()},
                     {"key",
                      {{"kid", package.kid.text()},
                       {"algorithm", name_of(KeyAlgorithm::kAes256)},
                       {"created", rfc3339(package.created)},
                       {"state", name_of(package.state)}}},
                     {"wrapped", to_base64url(package.wrapped)},
                     {"oaep", name_of_hash(package.oaep)},
                     {"issued", rfc3339(package.issued)},
                     {"expires", rfc3339(package.expires)}};
  return sign(ops, identity, payload, kPackageType);
}

std::string sign_offer(KeyOps& ops, const PublicKeyInfo& identity, const Offer& offer) {
  Json hashes = Json::array();
  for (const OaepHash hash : offer.oaep) hashes.push_back(name_of_hash(hash));
  const Json payload{{"format", 1},
                     {"exchange_kid", offer.exchange_kid.text()},
                     {"oaep", hashes},
                     {"issued", rfc3339(offer.issued)}};
  return sign(ops, identity, payload, kOfferType);
}

Package parse_package(std::string_view payload) {
  const Json object = parse_object(payload);
  Members members(object, "the package");
  members.format();
  Package out;
  out.request = members.text("request");
  out.specification = members.text("specification");
  if (!is_request_id(out.request)) refuse("\"request\" is not an id");
  if (!is_specification(out.specification)) refuse("\"specification\" is not a specification name");
  out.source = members.kid("source");
  out.target = members.kid("target");
  out.exchange_kid = members.kid("exchange_kid");
  read_key(members.any("key"), out);
  auto wrapped = from_base64url(members.text("wrapped"));
  if (!wrapped || wrapped->empty()) refuse("\"wrapped\" is not base64url without padding");
  out.wrapped = std::move(*wrapped);
  out.oaep = hash_named(members.text("oaep"));
  out.issued = members.time("issued");
  out.expires = members.time("expires");
  members.finish();
  return out;
}

Offer parse_offer(std::string_view payload) {
  const Json object = parse_object(payload);
  Members members(object, "the offer");
  members.format();
  Offer out;
  out.exchange_kid = members.kid("exchange_kid");
  const Json& hashes = members.any("oaep");
  if (!hashes.is_array() || hashes.empty() || hashes.size() > 2) refuse("\"oaep\" is not a list");
  for (const auto& hash : hashes) {
    if (!hash.is_string()) refuse("\"oaep\" has an element that is not a string");
    out.oaep.push_back(hash_named(hash.get<std::string>()));
  }
  out.issued = members.time("issued");
  members.finish();
  return out;
}

Package open_package(const PublicKeyInfo& source, std::string_view jws) {
  if (jws.size() > kMaxPackage) refuse("it exceeds 8 KiB");
  return parse_package(as_text(envelope::verify_jws(source, jws, kPackageType)));
}

Offer open_offer(const PublicKeyInfo& target, std::string_view jws) {
  if (jws.size() > kMaxPackage) refuse("it exceeds 8 KiB");
  return parse_offer(as_text(envelope::verify_jws(target, jws, kOfferType)));
}

}  // namespace keyagent::exchange
