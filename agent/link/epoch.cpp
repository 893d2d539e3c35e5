// SPDX-License-Identifier: Apache-2.0
#include "agent/link/epoch.h"

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/statement.h"
#include "agent/link/answer.h"
#include "agent/link/certificates.h"

namespace keyagent::link {
namespace {

// Throws Error{kIntegrity} for one that was not signed for us.
std::uint64_t epoch_of(const LinkState& state, const std::string& jws) {
  const auto pinned = from_base64url(state.confirmation_key);
  const Bytes payload = envelope::verify_statement(signing_key_of(pinned.value_or(Bytes{})), jws,
                                                   envelope::Statement::kEpoch);
  const Answer said{std::string(as_text(payload))};
  if (said.text("instance") != state.instance)
    throw Error(Code::kIntegrity,
                "the epoch belongs to another instance: " + escape_controls(said.text("instance")));
  return said.number("epoch");
}

}  // namespace

void Epoch::hear(const LinkState& state, const std::string& jws) {
  if (jws.empty()) return;
  try {
    const auto now = epoch_of(state, jws);
    const auto kept = state.epoch.empty() ? 0 : epoch_of(state, state.epoch);
    if (now > kept) {
      store_.update([&](LinkState& fresh) {
        if (fresh.confirmation_key == state.confirmation_key) fresh.epoch = jws;
      });
    } else if (now < kept) {
      alarm(Code::kIntegrity, "the instance is at event " + std::to_string(now) + " and was at " +
                                  std::to_string(kept) +
                                  ": it was restored from a backup; the agent reports that to it");
    }
  } catch (const Error& error) {
    alarm(error.code(), std::string("the instance's epoch is rejected: ") + error.what());
  }
}

void Epoch::alarm(Code code, const std::string& text) {
  if (alarmed_ == text) return;
  alarmed_ = text;
  if (!context_.tell) return;
  keys::KeyEvent happening;
  happening.weight = keys::KeyEvent::Weight::kAlarm;
  happening.what = "link.instance-restored";
  happening.actor = "internal:link";
  happening.outcome = code_name(code);
  happening.detail = text;
  context_.tell(happening);
}

}  // namespace keyagent::link
