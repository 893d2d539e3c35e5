// SPDX-License-Identifier: Apache-2.0
#include "agent/link/credentials.h"

#include <algorithm>
#include <utility>

#include "agent/base/disk.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/leftovers.h"
#include "agent/base/log.h"
#include "agent/envelope/envelope.h"

namespace keyagent::link {
namespace {

using OrderedJson = nlohmann::ordered_json;

// However many an instance names: what is kept of them here is bounded (RELIABILITY 153).
constexpr std::size_t kMaxCopies = 1000;
constexpr std::size_t kMaxStale = 10000;

// A name is a part of a path, here and at the instance.
bool is_name(const std::string& name) {
  return !name.empty() && name.size() <= 128 && name.front() != '.' && name.front() != '-' &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
         });
}

void require_name(const std::string& name) {
  if (is_name(name)) return;
  throw Error(Code::kUsage,
              "a credential name must have 1 to 128 letters, digits, '.', '_' and '-'");
}

void describe(const SealedCredential& sealed, const std::string& fetched, bool cached,
              wire::Credential& out) {
  out.set_name(sealed.name);
  out.set_type(sealed.type);
  out.set_version(sealed.version);
  out.set_kid(sealed.kid);
  out.set_cached(cached);
  out.set_fetched(fetched);
  out.set_unbound(!sealed.envelope.empty() && !is_bound(sealed.envelope));
}

// The instance was reached and refuses: its refusal overrides a cached copy.
bool is_final(Code code) {
  return code == Code::kDenied || code == Code::kKeyNotPresent || code == Code::kKeyState;
}

}  // namespace

Credentials::Credentials(const LinkContext& around, LinkStore& store, OwnKeys& keys,
                         TlsLibrary& library, const InstanceConnection& uplink,
                         LastContact& contact)
    : context_(around),
      store_(store),
      keys_(keys),
      uplink_(uplink),
      contact_(contact),
      folder_(around.folder / "credentials"),
      versions_(around.folder),
      line_(around, keys, library, store) {
  remove_leftovers(folder_, "");  // they would count as copies
}

std::filesystem::path Credentials::path_of(const std::string& name) const {
  return folder_ / (name + ".json");
}

std::optional<Credentials::Copy> Credentials::read(const std::string& name) const {
  if (!std::filesystem::exists(path_of(name))) return std::nullopt;
  try {
    const Bytes bytes = read_trusted_file(path_of(name));
    const Answer kept{std::string(as_text(bytes))};
    return Copy{
        {name, kept.text("type"), kept.text("kid"), kept.text("envelope"), kept.number("version")},
        kept.text("fetched")};
  } catch (const Error& error) {
    log_warning("link", "the copy of credential " + name + " cannot be read: " + error.what());
    return std::nullopt;
  }
}

// Fetches the copy for the active key; a blind one may still be sealed to an older generation.
SealedCredential Credentials::fetch_for_our_keys(const LinkState& state, InstanceApi& api,
                                                 const std::string& name) {
  std::optional<Error> missing;
  for (const auto& key : keys_.generations(state.transport_key)) {
    const bool opens =
        key.state() == name_of(KeyState::kActive) || key.state() == name_of(KeyState::kDeactivated);
    if (!opens) continue;
    try {
      auto sealed = api.credential(name, key.kid());
      if (sealed.name != name)
        throw Error(Code::kIntegrity, "the instance sent a credential other than " + name);
      return sealed;
    } catch (const Error& error) {
      if (error.code() != Code::kKeyNotPresent) throw;
      if (!missing) missing = error;
    }
  }
  if (missing) throw Error(*missing);
  throw Error(Code::kKeyState, "no key of " + state.transport_key + " can open envelopes now");
}

void Credentials::require_room(const std::string& name) const {
  if (std::filesystem::exists(path_of(name))) return;
  const auto files = std::distance(std::filesystem::directory_iterator(folder_),
                                   std::filesystem::directory_iterator());
  if (static_cast<std::size_t>(files) < kMaxCopies) return;
  throw Error(Code::kUnsupported, "this agent keeps at most " + std::to_string(kMaxCopies) +
                                      " credentials; " + name +
                                      " exceeds this; assign fewer at the instance");
}

Credentials::Copy Credentials::fetch(const LinkState& state, const std::string& name) {
  try {
    Copy copy{fetch_for_our_keys(state, line_.api(state), name), rfc3339(context_.clock->now())};
    require_right(state, copy.sealed);
    const OrderedJson kept{{"type", copy.sealed.type},
                           {"version", copy.sealed.version},
                           {"kid", copy.sealed.kid},
                           {"envelope", copy.sealed.envelope},
                           {"fetched", copy.fetched}};
    keep(name, kept.dump(2) + "\n");
    const MutexLock lock(mutex_);
    stale_.erase(name);
    absent_.erase(name);
    return copy;
  } catch (const Error& error) {
    line_.drop();
    if (is_final(error.code()) && !line_.key_changed(state)) {
      drop(path_of(name));
      const MutexLock lock(mutex_);
      stale_.erase(name);
      if (error.code() != Code::kKeyState && absent_.size() < kMaxStale) absent_.insert(name);
    }
    throw;
  }
}

// The caller gets what was fetched, whether or not a copy of it can be kept. An older copy does not
// stand in for it later.
void Credentials::keep(const std::string& name, const std::string& text) const {
  std::string why = why_unwritable(context_.folder);
  if (why.empty()) {
    try {
      make_private_folder(folder_);
      require_room(name);
      return replace_file(path_of(name), as_bytes(text), 0600);
    } catch (const Error& error) {
      why = error.what();
    }
    drop(path_of(name));
  }
  log_warning("link", "no copy of credential " + name + " is kept: " + why);
}

// The instance's answer counts, even if the copy cannot be removed.
void Credentials::drop(const std::filesystem::path& copy) {
  try {
    remove_file(copy);
  } catch (const Error& error) {
    log_warning("link", error.what());
  }
}

// What was asked with a key that was rekeyed meanwhile is asked again with its
// successor (MISSION T8).
Credentials::Copy Credentials::fetch_through_rekey(const LinkState& state,
                                                   const std::string& name) {
  try {
    return fetch(state, name);
  } catch (const Error&) {
    const auto now = store_.get();
    if (!now || !line_.key_changed(*now)) throw;
    return fetch(*now, name);
  }
}

// nullopt: the instance is unreachable, or another thread holds the connection; use the cached
// copy.
std::optional<Credentials::Copy> Credentials::fetch_if_possible(const LinkState& state,
                                                                const std::string& name,
                                                                bool has_copy, bool stale) {
  if (has_copy && uplink_.report().phase == Phase::kUnreachable) return std::nullopt;
  if (!line_.turn().try_lock_for(context_.timing.answer)) {
    if (has_copy && !stale) return std::nullopt;
    throw Error(Code::kBusy, "another credential is being fetched; try again");
  }
  const MutexLock asking(line_.turn(), std::adopt_lock);
  try {
    return fetch_through_rekey(state, name);
  } catch (const Error& error) {
    if (!has_copy || !retryable(error.code())) throw;
    return std::nullopt;
  }
}

// RELIABILITY 158. A copy that is refused takes the place of none that is here.
void Credentials::require_right(const LinkState& state, const SealedCredential& sealed) {
  require_bound(state, sealed, versions_.seen(state.instance, sealed.name),
                context_.require_bound.value_or(state.require_bound));
}

void Credentials::open(const LinkState& state, const Copy& copy, wire::CredentialGetReply& reply) {
  require_right(state, copy.sealed);
  // The instance must not have other keys of this host open something.
  const std::string kid = envelope::inspect(as_bytes(copy.sealed.envelope)).kid;
  if (kid != copy.sealed.kid || keys_.show(kid).name() != state.transport_key)
    throw Error(Code::kIntegrity, "the credential is not sealed to this agent's transport key");
  const SecretBytes value = keys_.open(
      kid, copy.sealed.envelope,
      "credential " + copy.sealed.name + ", version " + std::to_string(copy.sealed.version));
  versions_.note(state.instance, copy.sealed.name,
                 {copy.sealed.version, is_bound(copy.sealed.envelope)});
  reply.set_value(value.data(), value.size());
}

void Credentials::get(const std::string& name, wire::CredentialGetReply& reply) {
  require_name(name);
  const auto state = require_trusted(store_, uplink_);
  auto kept = read(name);
  bool stale = false;
  {
    const MutexLock lock(mutex_);
    stale = stale_.contains(name);
  }
  const auto fresh = fetch_if_possible(*state, name, kept.has_value(), stale);
  if (!fresh) contact_.require_fresh(name);
  const Copy& copy = fresh ? *fresh : *kept;
  open(*state, copy, reply);
  describe(copy.sealed, copy.fetched, !fresh, *reply.mutable_credential());
}

bool Credentials::list_at_instance(const LinkState& state, wire::CredentialListReply& reply) {
  if (!line_.turn().try_lock_for(context_.timing.answer)) return false;
  const MutexLock asking(line_.turn(), std::adopt_lock);
  if (uplink_.report().phase == Phase::kUnreachable) return false;
  try {
    for (const auto& each : line_.api(state).credentials()) {
      auto& out = *reply.add_credentials();
      describe({each.name, each.type, each.kids.empty() ? "" : each.kids.front(), {}, each.version},
               {}, false, out);
      out.set_unbound(!each.bound);
    }
    return true;
  } catch (const Error& error) {
    line_.drop();
    if (!retryable(error.code())) throw;
    return false;
  }
}

void Credentials::list(wire::CredentialListReply& reply) {
  const auto state = require_trusted(store_, uplink_);
  if (list_at_instance(*state, reply)) return;
  reply.clear_credentials();
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, none)) {
    const std::string name = entry.path().stem();
    if (!is_name(name) || entry.path().extension() != ".json") continue;
    if (const auto copy = read(name))
      describe(copy->sealed, copy->fetched, true, *reply.add_credentials());
  }
}

std::vector<std::string> Credentials::unbound() const {
  std::vector<std::string> names;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, none)) {
    const std::string name = entry.path().stem();
    if (!is_name(name) || entry.path().extension() != ".json") continue;
    if (const auto copy = read(name); copy && !is_bound(copy->sealed.envelope))
      names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void Credentials::changed(const std::vector<std::string>& names) {
  const MutexLock lock(mutex_);
  for (const auto& name : names) {
    if (is_name(name) && stale_.size() < kMaxStale) stale_.insert(name);
    absent_.erase(name);
  }
}

void Credentials::work() {
  const auto state = store_.get();
  if (!state || state->stage != LinkState::Stage::kTrusted) return;
  if (look_.exchange(false)) {
    try {
      return look_all(*state);
    } catch (const Error&) {
      look_ = true;
      throw;
    }
  }
  if (const auto name = next_stale()) return fetch_stale(*state, *name);
  if (!count_) return;
  const MutexLock asking(line_.turn());
  count(*state, listing(*state));
  count_ = false;
}

std::vector<CredentialInfo> Credentials::listing(const LinkState& state) {
  try {
    return line_.api(state).credentials();
  } catch (const Error&) {
    line_.drop();
    throw;
  }
}

void Credentials::look_all(const LinkState& state) {
  const MutexLock asking(line_.turn());
  const auto all = listing(state);
  const std::string kid = keys_.show(state.transport_key).kid();
  std::set<std::string> known;
  for (const auto& each : all) {
    known.insert(each.name);
    const auto kept = is_name(each.name) ? read(each.name) : std::nullopt;
    if (!kept || kept->sealed.version != each.version || kept->sealed.kid != kid)
      changed({each.name});
  }
  {
    // Callers choose the names that they ask for.
    const MutexLock lock(mutex_);
    std::erase_if(absent_, [&](const std::string& name) { return !known.contains(name); });
  }
  // What is no longer for this agent does not stay.
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, none)) {
    const bool copy = entry.path().extension() == ".json";
    if (copy && !known.contains(entry.path().stem())) drop(entry.path());
  }
  count(state, all);
}

// A credential counts for the newest of our keys that the instance's copies are sealed to, and for
// the key of the copy here until that is replaced. The instance lists its copies for the current
// keys only: a blind one that an older key opens is known by the copy here alone. While that copy
// is still to be fetched, no count falls: counts keep keys from being destroyed.
void Credentials::count(const LinkState& state, const std::vector<CredentialInfo>& all) {
  const auto ours = keys_.generations(state.transport_key);
  std::map<std::string, std::uint64_t> counts;
  bool complete = true;
  for (const auto& credential : all) {
    if (!is_name(credential.name)) continue;
    const auto kept = read(credential.name);
    bool known = kept.has_value() || is_absent(credential.name);
    bool listed = false;
    for (const auto& key : ours) {
      const auto& kids = credential.kids;
      const bool newest = !listed && std::find(kids.begin(), kids.end(), key.kid()) != kids.end();
      listed = listed || newest;
      if (newest || (kept && kept->sealed.kid == key.kid())) ++counts[key.kid()];
    }
    known = known || listed;
    complete = complete && known;
  }
  keys_.report_sealed(counts, complete);
}

// The instance reported that it has no copy for any of our keys, or that this one is not assigned
// to us.
bool Credentials::is_absent(const std::string& name) const {
  const MutexLock lock(mutex_);
  return absent_.contains(name);
}

// Each in its turn: one that cannot be had now holds up neither the others nor the count.
std::optional<std::string> Credentials::next_stale() {
  const MutexLock lock(mutex_);
  const auto next = stale_.upper_bound(last_tried_);
  if (next == stale_.end()) {
    last_tried_.clear();
    if (count_ || stale_.empty()) return std::nullopt;
    return last_tried_ = *stale_.begin();
  }
  return last_tried_ = *next;
}

void Credentials::fetch_stale(const LinkState& state, const std::string& name) {
  const MutexLock asking(line_.turn());
  try {
    fetch(state, name);
  } catch (const Error& error) {
    if (retryable(error.code())) throw;
    log_warning("link", "credential " + name + ": " + error.what());
    const MutexLock lock(mutex_);
    stale_.erase(name);
  }
  count_ = true;
}

void Credentials::forget_all() {
  const MutexLock asking(line_.turn());
  line_.drop();
  std::error_code none;
  std::filesystem::remove_all(folder_, none);
  versions_.forget_all();
  const MutexLock lock(mutex_);
  stale_.clear();
  absent_.clear();
}

}  // namespace keyagent::link
