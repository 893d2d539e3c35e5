// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the store keeps, one struct a row.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/bytes.h"
#include "agent/base/clock.h"
#include "agent/store/data_rows.h"

namespace keyagent::store {

// An agent of the instance. `id` is its name in certificates (SAN); its identity is auth_spki.
struct Agent {
  std::string id;                   // [a-z0-9.-]{1,63}
  std::string state;                // pending, trusted, suspended, revoked, rejected
  Bytes auth_spki, transport_spki;  // DER
  std::string auth_kid, transport_kid;
  std::string previous_transport_kid;  // still delivered to until the rekey is confirmed; or empty
  std::string envelope;                // JOSE alg of the transport key
  // Proved, not yet in effect: certificates and credentials go to both until the switch.
  Bytes next_auth_spki, next_transport_spki;
  std::string next_auth_kid, next_transport_kid, next_envelope;
  std::string host, version;  // reported by the agent: for display, never for a decision
  std::vector<std::string> groups;
  std::string approved_by, reason;
  WallTime enrolled, changed, last_seen;  // last_seen: epoch 0 for never
  std::int64_t revision = 0;              // for compare-and-set
};

struct EnrollmentToken {
  Bytes hash;            // SHA-256 of the secret
  std::string agent_id;  // only for this agent; empty: any
  std::vector<std::string> groups;
  std::string created_by;
  WallTime expires;
  std::string used_by;   // agent id; empty: not yet
  bool inherit = false;  // who replaces an agent gets its groups and credentials too
};

// Something that a peer must answer in time: an enrollment, a new transport key.
struct Challenge {
  std::string id;    // 128 random bits, hex
  std::string kind;  // enrollment, transport
  std::string agent;
  std::string state;
  std::string data;  // JSON: the request, and SHA-256 of the right answers
  WallTime expires;
  std::string address{};  // of an enrollment: its principal
};

struct User {
  std::string name;
  std::string role;         // admin, cryptographic-manager, operator, auditor
  std::string password;     // Argon2id, PHC string form; empty: none
  std::string spki_sha256;  // base64url of a client certificate's key; empty: none
  bool disabled = false;
  bool operator==(const User&) const = default;
};
// How many enabled users must keep a role.
struct RoleFloor {
  std::string role;
  std::int64_t count = 0;  // 0: no such limit
};
struct LoginSession {
  Bytes hash;  // SHA-256 of the bearer secret
  std::string user;
  WallTime expires;
  WallTime used{};  // the last request with it, as use_login() wrote it
};

struct Credential {
  std::string name;
  std::string type;          // password, ssh-key, api-token, certificate, json
  std::int64_t version = 0;  // 1, 2, …
  bool blind = false;        // the instance never had the plaintext: no stored value
  std::string kid;           // the data key of the stored value, as it is read
  Bytes envelope;            // its value as programs before schema 6 kept it; empty: it is a record
  std::vector<std::string> agents, groups;  // who gets it
  std::string changed_by;
  WallTime changed;
  bool removed = false;
};
// One credential version, sealed to one agent's transport key.
struct SealedCopy {
  std::string credential;
  std::int64_t version = 0;
  std::string agent, kid;
  Bytes envelope;  // JWE compact
};

struct Rekey {
  std::int64_t id = 0;
  std::string batch;       // rekeys that were ordered together
  std::string agent, key;  // key name on the agent: transport or auth key
  std::string state;       // ordered, sent, staged, confirmed, failed, cancelled
  std::string old_kid, new_kid, ordered_by, detail;
  WallTime ordered, changed;
  bool canary = false;
};

// Work for a handler on an agent's host, handed out under a lease.
struct Task {
  std::string id;           // 128 random bits, hex: the same in every attempt
  std::int64_t number = 0;  // in the order of submission; the store gives it
  std::string key, digest;  // the submitter's idempotency key or empty; SHA-256 of what was asked
  std::string handler;
  std::string target;  // agent:ID or group:NAME
  std::string agent;   // its last holder; empty: none yet
  std::string state;   // queued, leased, started, done, failed, unknown, cancelled
  std::string input;   // JSON
  std::string credential;
  std::int64_t priority = 0;  // high first
  bool repeatable = false;
  std::int64_t attempt = 0, attempts = 1;  // taken so often, may be taken so often
  std::int64_t seconds = 0;                // that the handler may run; 0: the worker's default
  WallTime not_before;                     // while queued: not available earlier
  std::string submitted_by;
  WallTime submitted, changed;
  Bytes lease;                             // SHA-256 of the last lease's secret; empty: never taken
  WallTime lease_until;                    // while leased or started
  std::chrono::milliseconds lease_life{};  // as sent to the agent
  bool cancelling = false;                 // is to be cancelled when its lease ends
  Bytes said;  // SHA-256 of the end that came with the last lease; empty: none
  std::string text, result;
  std::int64_t revision = 0;  // for compare-and-set
};
struct TaskPause {
  std::string what;  // all, agent:ID, handler:NAME
  std::string paused_by;
  WallTime paused;
};

// The link of an agent, at one replica. An agent's links are numbered: the greatest is the one that
// lives, the others are to be closed where they are.
struct AgentLink {
  std::string agent;
  std::string replica;  // empty: it has ended
  std::int64_t session = 0;
  std::string address, tls_version, serial;
  WallTime since, seen;   // seen: the last heartbeat; of a replica that was killed it stays behind
  std::int64_t news = 0;  // greater than before: something about the agent's credentials changed
};
// A new link: as it is now, and what was there (its replica empty: nothing), with the new number.
struct EnteredLink {
  AgentLink now, before;
};
// A link, and whether its agent may have it.
struct LinkStatus {
  AgentLink link;
  std::string agent_state, auth_kid, next_auth_kid;
};

// The newest checkpoint of an agent's audit log, as the agent sent it.
struct AuditCheckpoint {
  std::string agent;
  WallTime enrolled;      // of the agent: a checkpoint of an earlier enrollment does not count
  std::int64_t size = 0;  // records that it covers
  std::string hash, kid;
  std::string text;  // as checkpoint.json
  WallTime noted;
};
// The days (UTC) of an agent whose first checkpoint is kept besides the newest one.
inline constexpr int kMaxCheckpointDays = 30;

// What one person asks for and another one decides.
struct Decision {
  std::string id;            // 128 random bits, hex
  std::string kind;          // peers, automatic, token-groups, decrypt, destroy
  std::string subject;       // what it is about: a name
  std::string request;       // JSON: what is to be done
  std::string precondition;  // JSON: the state that it was decided for; it must be unchanged
  std::string state;         // pending, approved, rejected, expired, failed
  std::string requested_by, decided_by, text;
  WallTime created, changed, expires;
};

struct Certificate {
  std::string serial;  // lower-case hex
  std::string agent;   // or empty for the instance's own
  std::string kid;
  WallTime not_before, not_after;
  std::optional<WallTime> revoked;
  std::string reason;  // RFC 5280 CRLReason name
  Bytes der;
};

struct Event {
  std::int64_t seq = 0;
  WallTime at;
  std::string actor, action, subject, outcome, text;  // outcome: done, refused, failed, alarm
  std::int64_t repeats = 1;                           // a summary stands for this many events
};

// Another instance, with which keys are exchanged. It is its identity; where it is, is a route.
struct Peer {
  std::string identity;  // kid of its identity key
  std::string name;      // its local name
  Bytes spki;            // of that key; empty until its first message, which brings it
  std::string url, ca;   // https://host:port, and SHA-256 of its CA's key, base64url
  // What is exported to it without approval; JSON, or empty: nothing. Only while this instance is
  // still `owner`: a clone does not inherit it.
  std::string automatic, owner;
  std::int64_t epoch = 0;  // the greatest number of an event that it has sent, with its signature
  std::string epoch_jws;
  std::string added_by;
  WallTime added, seen;       // seen: epoch 0 for never
  std::int64_t revision = 0;  // for compare-and-set
};

// A request for keys, at one of its ends.
struct Exchange {
  std::string id;                           // 128 random bits, hex: the same at both ends
  std::int64_t number = 0;                  // in the order of their making here; the store gives it
  std::string side;                         // source, target
  std::string own, peer;                    // identity kids: whose row it is, and the other end
  std::string frequency;                    // adhoc, one-time-clone, recurring-clone
  std::vector<std::string> specifications;  // empty: all that the source has
  bool rekey = false;                       // data are put under new keys after the import
  std::string state;                        // exchange_request.h
  std::string code, text;                   // of a failure or the last fault; why it ended
  std::string digest;                       // SHA-256 of what was asked, base64url
  std::string requested_by, approved_by;
  std::chrono::milliseconds period{};  // of a recurring one
  std::string series;                  // the id of its first
  WallTime next;                       // when the series continues; epoch 0: it does not
  WallTime created, changed, expires;
  std::int64_t faults = 0, looks = 0;  // in a row, since the last change of state
  WallTime due;                        // when something is to be done; epoch 0: nothing
  bool exported = false, told = false, retried = false;
  bool taken = false;      // a key was imported, or was there
  std::string offer;       // JSON: the wrapping key with its proof, as the target's agent made it
  std::string transcript;  // SHA-256, base64url
  std::string own_statement, peer_statement;  // JWS of it by either end
  std::int64_t revision = 0;                  // for compare-and-set
};
// One key of a request. Its package is wrapped for the target and signed.
struct ExchangeKey {
  std::string specification, kid;  // kid empty: the source has none of this specification
  std::string outcome;  // empty: in progress; imported, already_there, not_found, refused, failed
  std::string code, text, package;
};

// The store is older than an event number that the instance has sent.
struct Restored {
  std::int64_t epoch = 0;  // the greatest number of an event that was sent
  std::string agent;       // the agent that returned it
  WallTime since;
};

}  // namespace keyagent::store
