// SPDX-License-Identifier: Apache-2.0
#pragma once
// What an enrollment left: who the instance is, who we are there. No secret is in it.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/mutex.h"

namespace keyagent::link {

struct LinkState {
  enum class Stage { kPending, kTrusted } stage = Stage::kPending;
  std::string url;             // of the enrollment: "https://host:8443"
  std::string ca_fingerprint;  // base64url of the SHA-256 of the CA's SubjectPublicKeyInfo: pinned
  std::string agent;           // our id there
  std::string auth_key, transport_key;  // names of our keys
  // kPending: what identifies the request. The challenge is sealed to the transport key.
  std::string enrollment, challenge;
  // kTrusted:
  std::string instance, agents_url;
  std::string ca, crl;           // PEM
  std::string confirmation_key;  // base64url of the SubjectPublicKeyInfo
  // By the kid of the auth key: its chain in PEM, leaf first. The new one is there before its key
  // is in effect, the old one until the instance has seen the new.
  std::map<std::string, std::string> certificates;
  std::map<std::string, std::uint64_t> orders;  // rekeys that the instance ordered: their id here
  // The rotation that the instance has for the next transport key.
  std::string rotation, rotation_kid;
  // Signed by the instance, or empty: how far it was (epoch.h), and that it trusts our transport
  // key.
  std::string epoch, confirmation;
  // contact.h: RFC 3339, and the instance's limit in milliseconds; empty: an earlier program's
  // file.
  std::string contact, seen, credential_limit;
  // Refuse credentials whose envelopes are not bound. False: enrolled by a version without
  // bindings.
  bool require_bound = false;
  // The value of the last session that the instance acknowledged, and the next one to be
  // acknowledged: random. A copy of this folder continues from the same value, so the instance
  // detects two agents.
  std::string session, next_session;

  bool operator==(const LinkState&) const = default;
};

std::string to_text(const LinkState& state);
// Throws Error{kIntegrity} for anything but what to_text() writes.
LinkState parse_link_state(std::string_view text);

// `link.json` in the agent's state folder, replaced as a whole. Thread-safe; readers get an
// immutable snapshot.
class LinkStore {
 public:
  // A file that cannot be parsed counts as not enrolled; fault() returns the reason.
  explicit LinkStore(const std::filesystem::path& folder);

  std::shared_ptr<const LinkState> get() const;  // null: not enrolled
  const std::string& fault() const { return fault_; }
  // On the disk when it returns. Throws Error{kConfiguration}, and nothing has changed.
  void put(LinkState state);
  // Changes the stored state; does nothing when not enrolled.
  void update(const std::function<void(LinkState&)>& change);
  void remove();

 private:
  void write(LinkState state) REQUIRES(mutex_);

  const std::filesystem::path path_;
  std::string fault_;
  mutable Mutex mutex_;
  std::shared_ptr<const LinkState> state_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::link
