// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/data/records.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/base/wiping.h"
#include "agent/envelope/envelope.h"
#include "agent/store/records.h"

namespace keyagent::instance {
namespace {

constexpr std::size_t kMaxValue = 64 * 1024, kLongestId = 128;
constexpr int kTries = 8;

void check_id(const std::string& id) {
  constexpr std::string_view kMarks = "._-:@+";
  const bool good = !id.empty() && id.size() <= kLongestId &&
                    std::all_of(id.begin(), id.end(), [&](unsigned char c) {
                      return (c < 0x80 && std::isalnum(c) != 0) ||
                             kMarks.find(static_cast<char>(c)) != std::string_view::npos;
                    });
  if (!good) throw Error(Code::kUsage, "a record id must match [A-Za-z0-9._:@+-]{1,128}");
}

// Precedes the value in each envelope: its record and version. An attacker that can write the store
// cannot replace a value with another record's, or with an older version (RELIABILITY 158).
std::string label_of(const std::string& specification, const std::string& id,
                     std::int64_t version) {
  return "keyagent record 2\n" + specification + "\n" + id + "\n" + std::to_string(version) + "\n";
}

// The label of versions that did not bind the version.
std::string unversioned_label_of(const std::string& specification, const std::string& id) {
  return "keyagent record 1\n" + specification + "\n" + id + "\n";
}

// The value behind the label; nullopt: there is another one, or none.
std::optional<SecretBytes> behind(const std::string& label, const SecretBytes& plaintext) {
  if (plaintext.size() < label.size() || !std::equal(label.begin(), label.end(), plaintext.begin()))
    return std::nullopt;
  return SecretBytes(plaintext.begin() + static_cast<std::ptrdiff_t>(label.size()),
                     plaintext.end());
}

SecretBytes labeled(const std::string& label, const SecretBytes& value) {
  SecretBytes out(label.begin(), label.end());
  out.insert(out.end(), value.begin(), value.end());
  return out;
}

// Values of credentials go to agents, and never to people.
void require_for_people(const std::string& specification) {
  if (specification == store::kCredentialData)
    throw Error(Code::kDenied, "the values of " + specification +
                                   " are managed as credentials and read by the agents they are "
                                   "assigned to; use: keyagent instance credential");
}

std::string named(const store::Record& record) {
  return record.specification + "/" + record.id;
}

// "keys-example (identity KID)"
std::string owner_of(const Json& source) {
  if (!source.is_object()) return "unknown";
  const auto identity = text_of(source, "identity", "");
  return text_of(source, "instance", "unknown") +
         (identity.empty() ? "" : " (identity " + identity + ")");
}

}  // namespace

Records::Records(DataKeys& keys, store::Store& store, Specifications& specifications,
                 Recorder& recorder, const Clock& clock, bool require_bound)
    : keys_(keys),
      store_(store),
      specifications_(specifications),
      recorder_(recorder),
      clock_(clock),
      require_bound_(require_bound) {}

DataKeys::Sealed Records::seal(const std::string& specification, const SecretBytes& plaintext) {
  try {
    return keys_.seal(specification, plaintext);
  } catch (const Error& error) {
    // The agent does not have it, does not show it, or only opens with it (imported). A suspended
    // key was suspended on purpose.
    const bool none = error.code() == Code::kKeyNotPresent || error.code() == Code::kDenied ||
                      error.code() == Code::kKeyState;
    if (!none) throw;
    const auto keys = keys_.generations(specification);
    if (std::any_of(keys.begin(), keys.end(), [](const auto& key) {
          return key.state() == "active" || key.state() == "suspended";
        }))
      throw;
    throw Error(Code::kKeyNotPresent, "the specification " + specification +
                                          " has no active key in this instance's token; run: "
                                          "keyagent instance specification create " +
                                          specification);
  }
}

store::RecordPut Records::seal_and_write(const Draft& draft, const SecretBytes& value,
                                         const Version& next, const Write& write) {
  for (int i = 0; i < kTries; ++i) {
    const auto version = next();
    const auto sealed =
        seal(draft.specification, labeled(label_of(draft.specification, draft.id, version), value));
    specifications_.note_key(draft.specification, sealed.kid);
    const auto done = write({draft.specification, draft.id, sealed.kid, version, sealed.envelope,
                             draft.changed_by, clock_.now()});
    using Outcome = store::RecordPut::Outcome;
    if (done.outcome != Outcome::kClosed && done.outcome != Outcome::kMoved) return done;
  }
  throw Error(Code::kBusy, "the key or the value is being replaced; try again");
}

void Records::bind_version(const store::Record& record, const SecretBytes& value) {
  try {
    const auto sealed =
        seal(record.specification,
             labeled(label_of(record.specification, record.id, record.version), value));
    specifications_.note_key(record.specification, sealed.kid);
    store::Record fresh = record;
    fresh.kid = sealed.kid;
    fresh.envelope = sealed.envelope;
    if (store_.records().replace_envelope(record, fresh))
      recorder_.record(Outcome::kDone, "instance", "record.bind", named(record),
                       "version " + std::to_string(record.version) + " is sealed with its value");
  } catch (const Error& error) {
    log_warning("instance", "the record " + named(record) +
                                " could not be resealed with its version: " + error.what());
  }
}

Json Records::put(const std::string& name, const std::string& id, const Json& request,
                  const AuthenticatedUser& person) {
  require_for_people(name);
  check_id(id);
  const auto specification = specifications_.require(name);
  specifications_.require_access(specification, DataUse::kEncrypt, person, name + "/" + id);
  Bytes bytes = bytes_of(request, "value");
  if (bytes.size() > kMaxValue) throw Error(Code::kUsage, "'value' exceeds 64 KiB");
  const SecretBytes value(bytes.begin(), bytes.end());
  OPENSSL_cleanse(bytes.data(), bytes.size());
  std::optional<std::int64_t> expected;
  if (request.contains("version") && !request["version"].is_null())
    expected = number_of(request, "version", 0, 0, INT64_MAX);
  std::string kid;
  const auto done = seal_and_write(
      {name, id, person.name}, value, [&] { return store_.records().version(name, id) + 1; },
      [&](const auto& record) {
        kid = record.kid;
        return store_.records().put(record, expected);
      });
  if (done.outcome == store::RecordPut::Outcome::kConflict)
    throw Error(Code::kExists, "the record " + name + "/" + id + " has version " +
                                   std::to_string(done.version) + ", not the named version");
  return {{"version", done.version}, {"kid", kid}};
}

// Explains why the agent did not open it. The agent gives the same answer for a missing key and a
// denied one; a user that may see the key gets the details.
void Records::explain(const store::Record& record, const Error& error) {
  const auto keys = keys_.generations(record.specification);
  const bool here = std::any_of(keys.begin(), keys.end(),
                                [&](const auto& key) { return key.kid() == record.kid; });
  if (here) throw Error(error.code(), error.what(), record.kid);
  const auto source = specifications_.source_of(record.specification, record.kid);
  throw Error(Code::kKeyNotPresent,
              "the record " + named(record) + " exists but cannot be read: its key kid=" +
                  record.kid + " source=" + owner_of(source) +
                  " is not in this instance's token; request it from the source",
              record.kid);
}

SecretBytes Records::open(const store::Record& record) {
  if (envelope::inspect(as_bytes(record.envelope)).kid != record.kid)
    throw Error(Code::kIntegrity,
                "the record " + named(record) + " names a different key than its row", record.kid);
  SecretBytes plaintext;
  try {
    plaintext = keys_.open(record.envelope);
  } catch (const Error& error) {
    if (error.code() != Code::kKeyNotPresent && error.code() != Code::kDenied) throw;
    explain(record, error);
  }
  if (auto value = behind(label_of(record.specification, record.id, record.version), plaintext))
    return *std::move(value);
  if (auto value = behind(unversioned_label_of(record.specification, record.id), plaintext);
      value && !require_bound_) {
    bind_version(record, *value);
    return *std::move(value);
  }
  throw Error(Code::kIntegrity,
              "the envelope of the record " + named(record) +
                  " contains another record, or another version of this record",
              record.kid);
}

Json Records::get(const std::string& name, const std::string& id, const AuthenticatedUser& person) {
  require_for_people(name);
  const auto specification = specifications_.require(name);
  check_id(id);
  specifications_.require_access(specification, DataUse::kDecrypt, person, name + "/" + id);
  const auto record = store_.records().find(name, id);
  if (!record) throw Error(Code::kUsage, "there is no record " + name + "/" + id);
  const auto value = open(*record);
  return {{"id", id},
          {"version", record->version},
          {"kid", record->kid},
          {"changed", rfc3339(record->changed)},
          {"changed_by", record->changed_by},
          {"value", to_base64url(value)}};
}

Json Records::remove(const std::string& name, const std::string& id,
                     const AuthenticatedUser& person) {
  require_for_people(name);
  const auto specification = specifications_.require(name);
  check_id(id);
  specifications_.require_access(specification, DataUse::kEncrypt, person, name + "/" + id);
  const auto event =
      recorder_.make(Outcome::kDone, "user " + person.name, "record.remove", name + "/" + id);
  if (!store_.records().remove(name, id, event))
    throw Error(Code::kUsage, "there is no record " + name + "/" + id);
  Recorder::say(event);
  return Json::object();
}

Json Records::list(const std::string& name, const std::string& after, std::size_t count) {
  specifications_.require(name);
  std::map<std::string, bool> readable;
  for (const auto& key : keys_.generations(name))
    readable[key.kid()] = key.usable() && (key.state() == "active" || key.state() == "deactivated");
  Json out = Json::array();
  for (const auto& each : store_.records().list(name, after, count))
    out.push_back({{"id", each.id},
                   {"version", each.version},
                   {"kid", each.kid},
                   {"readable", readable[each.kid]},
                   {"changed", rfc3339(each.changed)},
                   {"changed_by", each.changed_by}});
  return {{"records", out}};
}

}  // namespace keyagent::instance
