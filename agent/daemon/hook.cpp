// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/hook.h"

#include <sysexits.h>

#include <nlohmann/json.hpp>

#include "agent/base/encoding.h"
#include "agent/daemon/program.h"
#include "agent/envelope/envelope.h"

namespace keyagent::daemon {
namespace {

using Json = nlohmann::ordered_json;
using keys::Confirmation;

std::string request_of(Confirmation::Phase phase, const keys::RekeyRecord& rekey,
                       const keys::KeyRecord& old, const keys::KeyRecord& fresh) {
  Json request{{"phase", phase == Confirmation::Phase::kProve ? "prove" : "switched"},
               {"name", rekey.name.text()},
               {"purpose", name_of(fresh.purpose)},
               {"algorithm", name_of(fresh.algorithm)},
               {"old_kid", old.kid.text()},
               {"new_kid", fresh.kid.text()}};
  if (!fresh.spki.empty()) {
    const PublicKeyInfo info{fresh.kid,     fresh.name.text(), fresh.algorithm,
                             fresh.purpose, fresh.envelope,    fresh.spki};
    request["jwk"] = Json::parse(envelope::to_jwk(info));
    // No JWE is sealed to a key that accepts AES-CBC content.
    if (fresh.accepts_cbc) request["jwk"].erase("alg");
  }
  return request.dump() + "\n";
}

}  // namespace

// Exit status 0 confirms, 75 (EX_TEMPFAIL) asks to come back, everything else refuses.
Confirmation::Said HookConfirmation::ask(Phase phase, const keys::RekeyRecord& rekey,
                                         const keys::KeyRecord& old, const keys::KeyRecord& fresh) {
  Program hook{"the rekey hook", program_};
  hook.input = request_of(phase, rekey, old, fresh);
  hook.patience = patience_;
  const ProgramEnd end = run_program(hook);
  if (end.killed) return {Answer::kLater, "the hook timed out and was killed"};
  if (end.code == 0) return {Answer::kConfirmed, end.said};
  if (end.code == EX_TEMPFAIL || !end.code)
    return {Answer::kLater, end.said.empty() ? "the hook asks for a later retry" : end.said};
  return {Answer::kRefused, "the hook exited with " + std::to_string(*end.code) +
                                (end.said.empty() ? "" : ": " + end.said)};
}

}  // namespace keyagent::daemon
