// SPDX-License-Identifier: Apache-2.0
// Begin, show and abort rekeys. keys/rekey_runner executes them.

#include "agent/base/encoding.h"
#include "agent/gate/operation.h"

namespace keyagent::gate {
namespace {

template <class Value>
std::optional<Value> named(std::optional<Value> value, const char* what, const std::string& name) {
  if (name.empty()) return std::nullopt;
  if (value) return value;
  throw Error(Code::kUsage, "unknown " + std::string(what) + ": '" + escape_controls(name) +
                                "' (see keyagent rekey --help)");
}

void describe(const keys::Progress& progress, wire::Rekey& out) {
  const auto& rekey = progress.rekey;
  out.set_id(rekey.id);
  out.set_name(rekey.name.text());
  out.set_step(std::string(name_of(rekey.step)));
  out.set_old_kid(rekey.old_kid.text());
  out.set_new_kid(rekey.new_kid.text());
  out.set_algorithm(std::string(name_of(rekey.algorithm)));
  out.set_envelope(std::string(name_of(rekey.envelope)));
  out.set_begun(rfc3339(rekey.begun));
  out.set_changed(rfc3339(rekey.changed));
  out.set_drain_ms(static_cast<std::uint64_t>(rekey.drain.count()));
  out.set_drained_ms(static_cast<std::uint64_t>(rekey.drained.count()));
  out.set_actor(rekey.actor);
  out.set_reason(rekey.reason);
  out.set_waits_for(progress.waits_for);
  out.set_failures(static_cast<std::uint32_t>(progress.failures));
}

void wake(const Call& call) {
  call.state.services.around.wake_rekeys();
}

}  // namespace

void run_rekey(Call& call) {
  const auto& request = call.request.rekey();
  keys::RekeyRequest wanted;
  wanted.name = call.key->name;
  wanted.algorithm = named(key_algorithm_of(request.algorithm()), "algorithm", request.algorithm());
  wanted.envelope =
      named(envelope_algorithm_of(request.envelope()), "envelope algorithm", request.envelope());
  const bool internal = call.principal.voucher == policy::Principal::Voucher::kInternal;
  wanted.beyond_limits = request.beyond_limits() && !internal;
  const std::string reason = request.reason().empty() ? "on command" : request.reason();
  const auto rekey = call.state.services.rekeys.begin(wanted, {reason, call.principal.text()});
  describe({rekey, {}, 0}, *call.response.mutable_rekey()->mutable_rekey());
  wake(call);
}

void run_rekey_abort(Call& call) {
  const auto& request = call.request.rekey_abort();
  const std::string reason = request.reason().empty() ? "aborted on command" : request.reason();
  const auto rekey =
      call.state.services.rekeys.abort(call.key->name, {reason, call.principal.text()});
  describe({rekey, {}, 0}, *call.response.mutable_rekey_abort()->mutable_rekey());
  wake(call);
}

// Those of keys that the caller may see.
void run_rekey_status(Call& call) {
  const auto& request = call.request.rekey_status();
  auto& reply = *call.response.mutable_rekey_status();
  for (const auto& progress : call.state.services.rekeys.progress()) {
    const auto& rekey = progress.rekey;
    if (!request.name().empty() && rekey.name.text() != request.name()) continue;
    if (is_done(rekey.step) && !request.all()) continue;
    const auto old = call.state.services.keys.find(rekey.old_kid.text());
    if (!call.may(policy::Action::kPublic, rekey.name.text(), std::string(name_of(old.purpose))))
      continue;
    describe(progress, *reply.add_rekeys());
  }
}

}  // namespace keyagent::gate
