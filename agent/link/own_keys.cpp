// SPDX-License-Identifier: Apache-2.0
#include "agent/link/own_keys.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "agent/base/error.h"
#include "agent/openssl/signature_encoding.h"
#include "agent/pki/certification_request.h"
#include "agent/wire/messages.h"

namespace keyagent::link {
namespace {

// An RSA pair takes a slow token a minute.
constexpr std::chrono::milliseconds kCreation{120000};
// What an agent may take to make and test a successor; its rekeys run in a thread of their own.
constexpr std::chrono::milliseconds kSuccession{90000};

template <typename T>
T known(std::optional<T> value, const std::string& text) {
  if (!value) throw Error(Code::kInternal, "the agent has a key of an unknown kind: " + text);
  return *value;
}

constexpr const char* kCensus = "instance";  // the source's name

Bytes bytes_of(const std::string& text) {
  return {text.begin(), text.end()};
}

SecretBytes secret_of(const std::string& text) {
  return {text.begin(), text.end()};
}

// What certification authorities take.
SignatureAlgorithm algorithm_for_requests(const PublicKeyInfo& info) {
  return is_rsa(info.algorithm) ? SignatureAlgorithm::kRs256 : *default_signature(info.algorithm);
}

}  // namespace

PublicKeyInfo info_of(const wire::Key& key) {
  PublicKeyInfo info;
  info.kid = Kid(key.kid());
  info.name = key.name();
  info.algorithm = known(key_algorithm_of(key.algorithm()), key.algorithm());
  info.purpose = known(purpose_of(key.purpose()), key.purpose());
  info.accepts_cbc = key.accepts_cbc();
  info.envelope = known(envelope_algorithm_of(key.envelope()), key.envelope());
  info.spki = bytes_of(key.spki());
  return info;
}

wire::Key OwnKeys::show(const std::string& which) {
  wire::Request request;
  request.mutable_key_show()->set_key(which);
  return gate_.call(std::move(request)).key_show().key();
}

std::vector<wire::Key> OwnKeys::generations(const std::string& name) {
  wire::Request request;
  request.mutable_key_list();
  const auto response = gate_.call(std::move(request));
  std::vector<wire::Key> out;
  for (const auto& key : response.key_list().keys()) {
    if (key.name() == name) out.push_back(key);
  }
  std::sort(out.begin(), out.end(), [](const auto& left, const auto& right) {
    return left.generation() > right.generation();
  });
  return out;
}

wire::Key OwnKeys::provide(const std::string& name, Purpose purpose, bool replace) {
  wire::Request creation;
  auto& create = *creation.mutable_key_create();
  create.set_name(name);
  create.set_purpose(std::string(name_of(purpose)));
  for (const auto& key : generations(name)) {
    if (key.purpose() != name_of(purpose))
      throw Error(Code::kUsage,
                  "key " + name + " is for " + key.purpose() + "; choose another key for " +
                      std::string(name_of(purpose)),
                  key.kid());
    if (key.accepts_cbc())
      throw Error(Code::kUsage,
                  "key " + name +
                      " accepts AES-CBC content, which is not authenticated; choose another key "
                      "for credentials of the instance",
                  key.kid());
    if (key.usable() || !replace) continue;  // see succeed_revoked()
    // What takes its place is as it was: the newest generation comes first.
    if (create.algorithm().empty()) {
      create.set_algorithm(key.algorithm());
      create.set_envelope(key.envelope());
    }
    wire::Request request;
    auto& destroy = *request.mutable_key_destroy();
    destroy.set_key(key.kid());
    destroy.set_confirm_kid(key.kid());
    destroy.set_reason("the token has lost it; the agent enrolls again");
    gate_.call(std::move(request));
  }
  if (generations(name).empty()) gate_.call(std::move(creation), "link", kCreation);
  auto key = replace ? succeed_revoked(show(name)) : show(name);
  if (!key.usable())
    throw Error(Code::kKeyLost,
                "key " + name + " cannot be used: " + key.finding() +
                    "; if it is permanently lost, enroll again with --replace",
                key.kid());
  const bool revoked = key.state() == name_of(KeyState::kCompromised);
  if (key.state() != name_of(KeyState::kActive))
    throw Error(Code::kKeyState,
                "key " + name + " is " + key.state() +
                    (revoked ? "; to replace it, enroll again with --replace"
                             : "; run: keyagent key resume " + name),
                key.kid());
  return key;
}

// The enrollment confirms the successor, as the instance cannot (InstanceConfirmation::ask).
wire::Key OwnKeys::succeed_revoked(wire::Key key) {
  if (key.state() != name_of(KeyState::kCompromised)) return key;
  wire::Request request;
  request.mutable_rekey()->set_name(key.name());
  request.mutable_rekey()->set_reason("it is revoked; the agent enrolls again");
  gate_.call(std::move(request), "link", kCreation);
  const std::string name = key.name();
  const auto end = std::chrono::steady_clock::now() + kSuccession;
  while (key.state() != name_of(KeyState::kActive)) {
    if (std::chrono::steady_clock::now() > end)
      throw Error(Code::kKeyState,
                  "key " + name + " is revoked and has no successor yet; see keyagent rekey " +
                      name + " --status, then try again",
                  key.kid());
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    key = show(name);
  }
  return key;
}

// The log's earlier checkpoints verify with the old public key, which the ledger keeps.
void OwnKeys::replace_lost_audit_keys() {
  wire::Request list;
  list.mutable_key_list();
  const auto response = gate_.call(std::move(list));
  for (const auto& key : response.key_list().keys()) {
    const bool lost = key.purpose() == name_of(Purpose::kAudit) &&
                      key.state() == name_of(KeyState::kActive) && !key.usable();
    if (!lost) continue;
    wire::Request request;
    request.mutable_rekey()->set_name(key.name());
    request.mutable_rekey()->set_reason("the token has lost audit key " + key.kid() +
                                        "; its next generation signs checkpoints from now on");
    gate_.call(std::move(request), "link", kCreation);
  }
}

Bytes OwnKeys::sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) {
  wire::Request request;
  auto& sign = *request.mutable_sign();
  sign.set_key(kid.text());
  sign.set_algorithm(std::string(name_of(algorithm)));
  sign.set_input(input.data(), input.size());
  return bytes_of(gate_.call(std::move(request)).sign().signature());
}

Bytes OwnKeys::sign_message(const Kid& kid, SignatureAlgorithm algorithm, ByteView message) {
  wire::Request request;
  auto& sign = *request.mutable_sign();
  sign.set_key(kid.text());
  sign.set_algorithm(std::string(name_of(algorithm)));
  sign.set_message(message.data(), message.size());
  return bytes_of(gate_.call(std::move(request)).sign().signature());
}

std::string OwnKeys::certification_request(const wire::Key& key, const std::string& agent) {
  const PublicKeyInfo info = info_of(key);
  const auto algorithm = algorithm_for_requests(info);
  const auto sign = [&](ByteView message) {
    wire::Request request;
    request.mutable_prove()->set_key(key.kid());
    request.mutable_prove()->set_certification_request(message.data(), message.size());
    const Bytes raw = bytes_of(gate_.call(std::move(request)).prove().proof());
    return ec_field_size(info.algorithm) > 0 ? openssl::ecdsa_der(raw) : raw;
  };
  const pki::RequestedName name{"/CN=" + agent, {"DNS:" + agent}};
  return pki::request_pem(
      pki::make_request(info.spki, name, {openssl::algorithm_identifier(algorithm), sign}));
}

SecretBytes OwnKeys::answer(const std::string& kid, const std::string& challenge) {
  wire::Request request;
  request.mutable_prove()->set_key(kid);
  request.mutable_prove()->set_challenge(challenge);
  try {
    auto response = gate_.call(std::move(request));
    SecretBytes answer = secret_of(response.prove().proof());
    wire::wipe(response);
    return answer;
  } catch (const Error& error) {
    if (error.code() != Code::kInput && error.code() != Code::kUnsupported) throw;
    throw Error(Code::kIntegrity,
                std::string("the instance's challenge is not for key ") + kid + ": " + error.what(),
                kid);
  }
}

SecretBytes OwnKeys::open(const std::string& kid, const std::string& envelope,
                          const std::string& subject) {
  wire::Request request;
  request.mutable_open()->set_envelope(envelope);
  request.mutable_open()->set_key(kid);
  auto response = gate_.call(std::move(request), "link", GateClient::kPatience, subject);
  SecretBytes plaintext = secret_of(response.open().plaintext());
  wire::wipe(response);
  return plaintext;
}

void OwnKeys::report_sealed(std::map<std::string, std::uint64_t> counts, bool complete) {
  wire::Request look;
  look.mutable_census_list();
  std::map<std::string, std::uint64_t> known;
  const auto listed = gate_.call(std::move(look));
  for (const auto& entry : listed.census_list().entries()) {
    if (entry.source() == kCensus && entry.count() > 0) known[entry.kid()] = entry.count();
  }
  if (!complete) {
    for (const auto& [kid, count] : known) counts[kid] = std::max(counts[kid], count);
  }
  std::erase_if(counts, [](const auto& entry) { return entry.second == 0; });
  if (known == counts) return;
  wire::Request request;
  request.mutable_census_report()->set_source(kCensus);
  for (const auto& [kid, count] : counts) {
    auto& entry = *request.mutable_census_report()->add_entries();
    entry.set_kid(kid);
    entry.set_count(count);
  }
  gate_.call(std::move(request));
}

void OwnKeys::forget_sealed() {
  wire::Request request;
  request.mutable_census_report()->set_source(kCensus);
  request.mutable_census_report()->set_forget(true);
  gate_.call(std::move(request));
}

}  // namespace keyagent::link
