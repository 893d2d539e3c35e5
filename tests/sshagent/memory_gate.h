// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the gate answers, over keys in memory: for the requests that ssh_agent makes, and for no
// other.

#include <atomic>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/sshagent/ssh_agent.h"
#include "agent/wire/keyagent.pb.h"
#include "tests/support/software_keys.h"

namespace keyagent::test {

class MemoryGate {
 public:
  // The uid that it answers; all others are refused.
  static constexpr std::uint32_t kUid = 1000;

  PublicKeyInfo add(const std::string& name, Purpose purpose, KeyAlgorithm algorithm,
                    const std::string& state = "active") {
    return list(keys.add(name, purpose, algorithm), state);
  }
  // An active sign key in PKCS#8 DER.
  PublicKeyInfo add_pkcs8(const std::string& name, KeyAlgorithm algorithm, ByteView der) {
    return list(keys.add_pkcs8(name, Purpose::kSign, algorithm, EnvelopeAlgorithm::kNone, der),
                "active");
  }

  sshagent::SshAgent::Ask ask() {
    return [this](const policy::Principal& who, const wire::Request& request,
                  const std::shared_ptr<gate::Reply>& reply) {
      ++asked;
      if (forgetful) return;
      wire::Response response;
      try {
        if (who.uid != kUid) throw Error(Code::kDenied, "no");
        answer(request, response);
      } catch (const Error& error) {
        response.Clear();
        response.mutable_failure()->set_code(static_cast<wire::ErrorCode>(error.code()));
      }
      reply->answer(response);
    };
  }

  SoftwareKeys keys;
  std::vector<wire::Key> listed;
  std::atomic<int> asked{0}, signatures{0};
  bool may_sign = true;    // what the policy says of kUid, who sees every key
  bool forgetful = false;  // drops a request unanswered

 private:
  PublicKeyInfo list(const PublicKeyInfo& info, const std::string& state) {
    wire::Key key;
    key.set_kid(info.kid.text());
    key.set_name(info.name);
    key.set_purpose(std::string(name_of(info.purpose)));
    key.set_algorithm(std::string(name_of(info.algorithm)));
    key.set_state(state);
    key.set_spki(info.spki.data(), info.spki.size());
    listed.push_back(key);
    return info;
  }
  void answer(const wire::Request& request, wire::Response& response) {
    if (request.has_key_list()) {
      for (const auto& key : listed) *response.mutable_key_list()->add_keys() = key;
    } else if (request.has_key_show()) {
      for (const auto& key : listed)
        if (key.kid() == request.key_show().key())
          *response.mutable_key_show()->mutable_key() = key;
      if (!response.has_key_show()) throw Error(Code::kKeyNotPresent, "no such key");
    } else if (request.has_why()) {
      response.mutable_why()->set_allowed(may_sign);
    } else if (request.has_sign()) {
      if (!may_sign) throw Error(Code::kDenied, "no");
      ++signatures;
      const auto& sign = request.sign();
      const Bytes signature = keys.sign(Kid(sign.key()), *signature_algorithm_of(sign.algorithm()),
                                        as_bytes(sign.input()));
      response.mutable_sign()->set_signature(signature.data(), signature.size());
    } else {
      throw Error(Code::kInternal, "this is never asked for ssh");
    }
  }
};

}  // namespace keyagent::test
