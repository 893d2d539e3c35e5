// SPDX-License-Identifier: Apache-2.0
// What is sealed to which key, and sealing it again to the next generation.

#include <openssl/crypto.h>

#include <map>
#include <set>

#include "agent/base/encoding.h"
#include "agent/envelope/container.h"
#include "agent/envelope/envelope.h"
#include "agent/gate/operation.h"

namespace keyagent::gate {
namespace {

constexpr int kMaxEntries = 2000;
// Sums of counts stay far below 2^64: a sum that wraps around would free a key for destruction.
constexpr std::uint64_t kMaxCount = 1ULL << 40;

// A count keeps a key from being destroyed: it is taken from those who may rekey or reseal that key
// (RELIABILITY 154).
bool may_count(const Call& call, const keys::KeyRecord& key) {
  const std::string name = key.name.text(), purpose(name_of(key.purpose));
  return call.may(policy::Action::kRekey, name, purpose) ||
         call.may(policy::Action::kReseal, name, purpose);
}

// Adds the report's entry of one kid; false: the caller may not report that key.
bool add_entry(const Call& call, const wire::CensusEntry& entry,
               std::map<Kid, std::uint64_t>& out) {
  if (entry.count() > kMaxCount)
    throw Error(Code::kUsage, "a census may count at most 2^40 envelopes per key");
  if (entry.kid().empty()) {
    out[Kid()] += entry.count();
    return true;
  }
  const auto kid = Kid::parse(entry.kid());
  if (!kid) return false;
  for (const auto& key : call.state.services.keys.list()) {
    if (key.kid != *kid) continue;
    if (!may_count(call, key)) return false;
    out[*kid] += entry.count();
    return true;
  }
  return false;
}

// A storage key is destroyed only after a census since its switch, by a caller that may report it;
// no entry for the old key then counts as 0.
void add_empty_counts(const Call& call, std::map<Kid, std::uint64_t>& counts) {
  auto& keys = call.state.services.keys;
  for (const auto& rekey : keys.rekeys()) {
    if (rekey.step != keys::RekeyStep::kDraining) continue;
    const auto old = keys.find(rekey.old_kid.text());
    if (old.purpose == Purpose::kStorage && may_count(call, old)) counts.try_emplace(old.kid, 0);
  }
}

bool equal(const SecretBytes& a, const SecretBytes& b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

// In the format it had. A storage key's seal is the token's work.
Bytes seal_again(KeyOps& ops, const PublicKeyInfo& key, const envelope::Header& old,
                 const SecretBytes& plaintext) {
  const auto content = envelope::ContentEncryption::kA256Gcm;
  if (key.spki.empty() || old.format == envelope::Format::kJwe)
    return envelope::seal_jwe(ops, key, content, plaintext, old.binding);
  const Bytes sealed = envelope::seal_cms(key, content, plaintext);
  return old.armored ? envelope::armor_cms(sealed) : sealed;
}

// RELIABILITY 156: a caller that may only reseal must not learn anything about the plaintext, such
// as whether AES-CBC content has valid padding or opens at all.
void require_authenticated_content(const keys::KeyRecord& key, const envelope::Header& header) {
  if (header.authenticated && !key.accepts_cbc) return;
  throw Error(
      Code::kUnsupported,
      "cannot reseal an envelope with AES-CBC content, or of a key that accepts it: its content is "
      "not authenticated; have its author seal it with openssl cms -encrypt -aes-256-gcm",
      key.kid.text());
}

bool opens_to(KeyOps& ops, const PublicKeyInfo& key, const Bytes& sealed,
              const SecretBytes& plaintext) {
  try {
    return equal(plaintext, envelope::open(ops, key, sealed));
  } catch (const Error& error) {
    if (error.code() != Code::kInput) throw;
    return false;
  }
}

}  // namespace

void run_census_report(Call& call) {
  const auto& request = call.request.census_report();
  const auto& limits = call.state.options.census;
  if (request.source().empty() || request.source().size() > limits.source_bytes)
    throw Error(Code::kUsage, "a census must name its source, in at most " +
                                  std::to_string(limits.source_bytes) +
                                  " bytes (limits.census-source-bytes)");
  if (request.entries_size() > kMaxEntries)
    throw Error(Code::kUsage, "a census may have at most 2000 keys per source");
  auto& reply = *call.response.mutable_census_report();
  std::map<Kid, std::uint64_t> counts;
  for (const auto& entry : request.entries()) {
    if (!add_entry(call, entry, counts)) reply.add_refused(entry.kid());
  }
  if (reply.refused_size() > 0 && counts.empty()) {
    throw Error(Code::kDenied, call.principal.text() +
                                   " may neither rekey nor reseal any of the keys of the census; "
                                   "the deciding rule: keyagent why rekey KEY");
  }
  if (reply.refused_size() > 0)
    call.detail = std::to_string(reply.refused_size()) + " keys of the census were refused";
  if (!request.forget()) add_empty_counts(call, counts);
  // A scan without results is recorded as a separate entry.
  if (counts.empty() && !request.forget()) counts[Kid()] = 0;
  keys::CensusReport report;
  report.source = request.source();
  report.owner = call.principal.text();
  report.overrides = call.may(policy::Action::kAdmin, {}, {});
  report.limits = limits;
  const auto now = call.state.services.clock.now();
  for (const auto& [kid, count] : counts)
    report.entries.push_back({report.source, kid, count, now, report.owner});
  call.state.services.keys.record_census(report);
  call.state.services.around.wake_rekeys();
}

// Paths tell much of a host: others' sources are counts here, of keys that the caller may see.
void run_census_list(Call& call) {
  auto& reply = *call.response.mutable_census_list();
  const auto& keys = call.state.services.keys;
  const bool all =
      call.may(policy::Action::kAdmin, {}, {}) || call.may(policy::Action::kAudit, {}, {});
  const std::string caller = keys::owner_of(call.principal.text());
  std::map<Kid, std::uint64_t> others;
  std::set<std::string> sources;
  for (const auto& entry : keys.census()) {
    if (!all && keys::owner_of(entry.actor) != caller) {
      sources.insert(entry.source);
      others[entry.kid] += entry.count;
      continue;
    }
    auto& out = *reply.add_entries();
    out.set_source(entry.source);
    out.set_kid(entry.kid.text());
    out.set_count(entry.count);
    out.set_at(rfc3339(entry.at));
    out.set_actor(entry.actor);
  }
  reply.set_other_sources(sources.size());
  for (const auto& key : keys.list()) {
    const auto found = others.find(key.kid);
    if (found == others.end() || found->second == 0) continue;
    if (!call.may(policy::Action::kPublic, key.name.text(), std::string(name_of(key.purpose))))
      continue;
    auto& out = *reply.add_others();
    out.set_kid(key.kid.text());
    out.set_count(found->second);
  }
}

void resolve_reseal(Call& call) {
  resolve_envelope(call, call.request.reseal().envelope(), call.request.reseal().key());
}

// The plaintext stays in this process: a caller may reseal without the right to open. The old
// envelope is opened even when nothing changes, so that an envelope that does not open is not
// reported as up to date; the new one is opened before it is returned, so that the replacement is
// known to work.
void run_reseal(Call& call) {
  require_budget(call);
  auto& services = call.state.services;
  const auto old = *call.key;
  const auto sealed = as_bytes(call.request.reseal().envelope());
  auto& reply = *call.response.mutable_reseal();
  reply.set_old_kid(old.kid.text());
  const auto fresh = services.keys.find(old.name.text());
  reply.set_kid(fresh.kid.text());
  const auto header = envelope::inspect(sealed);
  require_authenticated_content(old, header);
  auto& ops = services.keys.ops();
  const auto plaintext = envelope::open(ops, info_of(old), sealed);
  if (fresh.kid == old.kid) return reply.set_changed(false);
  services.keys.require_use(fresh.kid, keys::Use::kSeal);
  const Bytes again = seal_again(ops, info_of(fresh), header, plaintext);
  if (!opens_to(ops, info_of(fresh), again, plaintext))
    throw Error(Code::kIntegrity,
                "the new envelope does not open to the same plaintext; it was discarded");
  reply.set_envelope(again.data(), again.size());
  reply.set_changed(true);
}

}  // namespace keyagent::gate
