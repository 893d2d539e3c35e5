// SPDX-License-Identifier: Apache-2.0
#include "agent/sshagent/signing.h"

#include <utility>

#include "agent/base/encoding.h"
#include "agent/base/log.h"
#include "agent/sshagent/continued.h"
#include "agent/sshagent/ssh_wire.h"
#include "agent/wire/keyagent.pb.h"

namespace keyagent::sshagent {
namespace {

constexpr std::uint8_t kSignResponse = 14;  // draft-ietf-sshm-ssh-agent section 6.1

}  // namespace

bool for_ssh(const wire::Key& key) {
  return key.purpose() == name_of(Purpose::kSign) && key.state() == name_of(KeyState::kActive);
}

Signing::Signing(Around around, const policy::Principal& principal, ByteView fields,
                 const SessionBindings& bindings, SshAgent::Answer answer)
    : context_(std::move(around)), answer_(std::move(answer)) {
  Reader reader(fields);
  const ByteView blob = reader.string(), data = reader.string();
  flags_ = reader.uint32();
  reader.finish();
  data_.assign(data.begin(), data.end());
  blob_.assign(blob.begin(), blob.end());
  // The key's kid follows from its blob.
  const auto known = context_.known->kid(blob);
  question_ = {principal,         {}, known ? *known : jwk_thumbprint(spki_of_blob(blob)),
               fingerprint(blob), {}, bindings.forwarded()};
  if (const auto* host_key = bindings.host_of(data)) question_.destination = fingerprint(*host_key);
}

// The first request returns the key's purpose and state, if the caller may see them; the last one
// is authorized and recorded like any other signature.
void Signing::begin() {
  wire::Request request;
  request.mutable_key_show()->set_key(question_.kid);
  ask(std::move(request), &Signing::shown);
}

void Signing::shown(const wire::Response& response) {
  const auto& key = response.key_show().key();
  const auto algorithm = key_algorithm_of(key.algorithm());
  how_ = algorithm ? signature_for(*algorithm, flags_) : std::nullopt;
  if (!for_ssh(key) || !how_) return refuse();
  context_.known->remember(blob_, question_.kid);
  question_.key = key.name();
  if (!context_.confirmation || !context_.confirmation->wanted(key.name())) return sign();
  // Check the permission first: no confirmation for a caller that may not sign.
  wire::Request why;
  why.mutable_why()->set_action(std::string(policy::name_of(policy::Action::kSign)));
  why.mutable_why()->set_key(question_.kid);
  ask(std::move(why), &Signing::decided);
}

void Signing::decided(const wire::Response& response) {
  // The gate refuses the request and records the policy's decision.
  if (!response.why().allowed()) return sign();
  context_.confirmation->ask(question_, [self = shared_from_this()](bool yes) {
    try {
      // The answer may take a minute, in which its user has locked the agent.
      const bool locked = self->context_.locks->locked(self->question_.principal.uid);
      return yes && !locked ? self->sign() : self->refuse();
    } catch (const std::exception& error) {
      log_warning("sshagent", error.what());
    }
    self->refuse();
  });
}

void Signing::sign() {
  wire::Request request;
  auto& sign = *request.mutable_sign();
  sign.set_key(question_.kid);
  sign.set_algorithm(std::string(name_of(how_->algorithm)));
  const Bytes input = signature_input(how_->algorithm, data_);
  sign.set_input(input.data(), input.size());
  ask(std::move(request), &Signing::signed_by);
}

void Signing::signed_by(const wire::Response& response) {
  const Bytes signature = signature_blob(*how_, as_bytes(response.sign().signature()));
  answer_(Writer().byte(kSignResponse).string(signature).take());
}

void Signing::ask(wire::Request request, void (Signing::*step)(const wire::Response&)) {
  auto then = [self = shared_from_this(), step](const wire::Response& response) {
    (self.get()->*step)(response);
  };
  context_.ask(question_.principal, std::move(request),
               std::make_shared<Continued>(std::move(then), answer_));
}

}  // namespace keyagent::sshagent
