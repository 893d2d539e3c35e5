// What is sealed to which key, and sealing it again to the next generation.

#include <openssl/crypto.h>

#include "agent/base/encoding.h"
#include "agent/envelope/envelope.h"
#include "agent/gate/operation.h"

namespace keyagent::gate {
namespace {

constexpr int kMostEntries = 2000;
constexpr std::size_t kLongestSource = 512;

// A source belongs to whoever reported it first: nobody else may say that it is empty by now.
void require_own_source(const Call& call, const std::string& source) {
  for (const auto& entry : call.state.services.keys->census()) {
    if (entry.source != source || entry.actor == call.principal.text()) continue;
    if (call.may(policy::Action::kAdmin, {}, {})) return;
    throw Error(Code::kDenied, "the census of '" + escape_controls(source) + "' is that of " +
                                   entry.actor + "; report under another --source");
  }
}

bool equal(const SecretBytes& a, const SecretBytes& b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

// In the format it had. A storage key's seal is the token's work.
Bytes seal_again(KeyOps& ops, const PublicKeyInfo& key, envelope::Format format,
                 const SecretBytes& plaintext) {
  const auto content = envelope::ContentEncryption::kA256Gcm;
  if (key.spki.empty()) return envelope::seal_jwe(ops, key, content, plaintext);
  return format == envelope::Format::kJwe ? envelope::seal_jwe(key, content, plaintext)
                                          : envelope::seal_cms(key, content, plaintext);
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
  if (request.source().empty() || request.source().size() > kLongestSource)
    throw Error(Code::kUsage, "a census names its source, in at most 512 bytes");
  if (request.entries_size() > kMostEntries)
    throw Error(Code::kUsage, "a census has at most 2000 keys a source");
  require_own_source(call, request.source());
  std::vector<keys::CensusEntry> entries;
  for (const auto& entry : request.entries()) {
    entries.push_back({request.source(), entry.kid().empty() ? Kid() : Kid(entry.kid()),
                       entry.count(), call.state.services.clock->now(), call.principal.text()});
  }
  // "Looked through, and nothing is there" is said by an entry of its own.
  if (entries.empty() && !request.forget())
    entries.push_back(
        {request.source(), Kid(), 0, call.state.services.clock->now(), call.principal.text()});
  call.state.services.keys->record_census(request.source(), entries);
  call.response.mutable_census_report();
  if (call.state.services.wake_rekeys) call.state.services.wake_rekeys();
}

void run_census_list(Call& call) {
  auto& reply = *call.response.mutable_census_list();
  for (const auto& entry : call.state.services.keys->census()) {
    auto& out = *reply.add_entries();
    out.set_source(entry.source);
    out.set_kid(entry.kid.text());
    out.set_count(entry.count);
    out.set_at(rfc3339(entry.at));
    out.set_actor(entry.actor);
  }
}

void resolve_reseal(Call& call) {
  resolve_envelope(call, call.request.reseal().envelope(), call.request.reseal().key());
}

// The plaintext stays in this process: who may reseal need not be allowed to open. The new envelope
// is opened once before it is given out, so that what replaces the old one is known to work.
void run_reseal(Call& call) {
  require_budget(call);
  auto& services = call.state.services;
  const auto old = *call.key;
  const auto sealed = as_bytes(call.request.reseal().envelope());
  auto& reply = *call.response.mutable_reseal();
  reply.set_old_kid(old.kid.text());
  const auto fresh = services.keys->find(old.name.text());
  reply.set_kid(fresh.kid.text());
  if (fresh.kid == old.kid) return reply.set_changed(false);
  if (!keys::state_allows(fresh.state, keys::Use::kSeal)) {
    throw Error(Code::kKeyState,
                "key " + fresh.name.text() + " is " + std::string(name_of(fresh.state)) +
                    " and nothing is sealed to it",
                fresh.kid.text());
  }
  auto& ops = services.keys->ops();
  const auto plaintext = envelope::open(ops, info_of(old), sealed);
  const Bytes again = seal_again(ops, info_of(fresh), envelope::inspect(sealed).format, plaintext);
  if (!opens_to(ops, info_of(fresh), again, plaintext))
    throw Error(Code::kIntegrity, "the new envelope does not open to the same; it was thrown away");
  reply.set_envelope(again.data(), again.size());
  reply.set_changed(true);
}

}  // namespace keyagent::gate
