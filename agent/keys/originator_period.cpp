// SPDX-License-Identifier: Apache-2.0
// Until when keys sign and seal, and how many generations a rekey may add.

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/log.h"
#include "agent/keys/clock_watch.h"
#include "agent/keys/key_store_impl.h"

namespace keyagent::keys {
namespace {

constexpr const char* kEnforcedNote = "cryptoperiod/enforced-since";
constexpr auto kDay = std::chrono::hours(24);

WallTime time_in(const std::string& text) {
  try {
    return text.empty() ? WallTime{} : parse_rfc3339(text);
  } catch (const Error&) {
    return WallTime{};
  }
}

}  // namespace

// A state folder of an earlier program may hold keys whose period is long over: it ends now, and
// the grace begins. A note of the future comes from a clock that was wrong.
void KeyStore::Impl::begin_enforcement() {
  const WallTime now = options.clock->now();
  believed = time_in(ledger.noted(kSeenNote));
  enforced_since = time_in(ledger.noted(kEnforcedNote));
  if (enforced_since != WallTime{} && enforced_since <= now) return;
  enforced_since = now;
  try {
    ledger.note(kEnforcedNote, rfc3339(now));
  } catch (const Error& error) {
    log_warning("keys", error.what());
  }
}

void KeyStore::Impl::mark_ends(Snapshot& fresh) const {
  fresh.refused_from.assign(fresh.records.size(), WallTime::max());
  if (!periods) return;
  for (std::size_t i = 0; i < fresh.records.size(); ++i) {
    if (const auto end = refused_from(fresh.records[i], *periods)) fresh.refused_from[i] = *end;
  }
}

void KeyStore::Impl::show(std::shared_ptr<Snapshot> fresh) {
  const MutexLock guard(snapshot_mutex);
  mark_ends(*fresh);
  snapshot = std::move(fresh);
}

void KeyStore::set_periods(const Periods& periods) {
  const MutexLock guard(impl_->snapshot_mutex);
  impl_->periods = std::make_shared<const Periods>(periods);
  auto fresh = std::make_shared<Snapshot>(*impl_->snapshot);
  impl_->mark_ends(*fresh);
  impl_->snapshot = std::move(fresh);
}

void KeyStore::believe(WallTime now) {
  impl_->believed = now;
}

WallTime KeyStore::believed() const {
  return impl_->believed;
}

WallTime KeyStore::enforced_since() const {
  return impl_->enforced_since;
}

void KeyStore::require_use(const Kid& kid, Use use) const {
  impl_->guarded.require(kid, use);
}

KeyOps& KeyStore::ops_while_rekeying(const Kid& old) {
  const auto now = impl_->current();
  const bool begun =
      std::any_of(now->rekeys.begin(), now->rekeys.end(), [&](const RekeyRecord& rekey) {
        return rekey.old_kid == old && is_before_switch(rekey.step) &&
               rekey.step != RekeyStep::kAborting;
      });
  return begun ? impl_->rekeying : impl_->handshaking;
}

// The ledger remembers: a restart gives an instance no new budget (RELIABILITY 153).
void KeyStore::Impl::require_within_limits(const Snapshot& from, const RekeyRequest& request,
                                           const Cause& cause) const {
  const std::string& name = request.name.text();
  const auto since = options.clock->now() - kDay;
  const auto ordered =
      std::count_if(from.rekeys.begin(), from.rekeys.end(), [&](const RekeyRecord& rekey) {
        return rekey.name == request.name && rekey.actor == kInstanceActor && rekey.begun > since;
      });
  if (cause.actor == kInstanceActor && ordered >= request.limits.ordered_per_day) {
    throw Error(Code::kKeyState, "key " + name + " is not rekeyed: the instance has ordered " +
                                     std::to_string(ordered) +
                                     " rekeys of it within a day (rekey.max-ordered-per-day); to "
                                     "rekey it locally: keyagent rekey " +
                                     name);
  }
  const auto kept = std::count_if(from.records.begin(), from.records.end(), [&](const auto& key) {
    return key.name == request.name && key.state != KeyState::kDestroyed && key.origin.empty();
  });
  if (request.beyond_limits || kept < request.limits.generations) return;
  throw Error(Code::kKeyState,
              "key " + name + " is not rekeyed: the token holds " + std::to_string(kept) +
                  " generations of it (rekey.max-generations); reseal the envelopes of the old "
                  "ones and wait for their drain period, or: keyagent rekey " +
                  name + " --beyond-limits");
}

}  // namespace keyagent::keys
