// SPDX-License-Identifier: Apache-2.0
#pragma once
// The instance's store. One schema on SQLite and on PostgreSQL; its tables are behind one class for
// each noun, whose headers have the same names.
//
// Replicas share one PostgreSQL: every change that depends on what was read happens in one
// transaction, and a change that lost a race is not applied: its return value reports that.

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/clock.h"
#include "agent/store/engine/options.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class AgentSessions;
class Agents;
class AuditCheckpoints;
class Certificates;
class Challenges;
class Credentials;
class DataKeys;
class Decisions;
class Enrollments;
class Events;
class Exchanges;
class Links;
class Logins;
class Peers;
class Records;
class Reencryptions;
class Rekeys;
class Restoration;
class SealedCopies;
class Settings;
class Specifications;
class Tasks;
class Users;
struct CloneCounts;
struct CloneOrder;

// Thread-safe: a pool of connections. Every method, also of a noun, throws Error: kPeer when the
// database cannot be reached (retryable; when the text says so, it is not known whether the change
// was made), kBusy when it is locked or all connections are in use for too long (retryable, nothing
// was changed), kIntegrity when it is damaged or newer than this program, kExists for what is there
// already, kUsage for text that is not UTF-8 or has a NUL in it, kInternal else. Times are stored
// with millisecond precision, rounded down.
class Store {
 public:
  explicit Store(Options options);  // opens and brings the schema up to date
  ~Store();

  // Each lives as long as this.
  Settings& settings();
  Agents& agents();
  AgentSessions& agent_sessions();
  AuditCheckpoints& audit_checkpoints();
  Links& links();
  Enrollments& enrollments();
  Challenges& challenges();
  Users& users();
  Logins& logins();
  Credentials& credentials();
  SealedCopies& sealed_copies();
  Rekeys& rekeys();
  Tasks& tasks();
  Peers& peers();
  Exchanges& exchanges();
  Certificates& certificates();
  Events& events();
  Restoration& restoration();
  Specifications& specifications();
  DataKeys& data_keys();
  Records& records();
  Reencryptions& reencryptions();
  Decisions& decisions();

  // Whatever this thread asks of the store inside of `work` is one transaction: all or nothing,
  // undone when `work` throws. `work` may be run again after a deadlock. Nothing slow belongs in
  // it: on SQLite it holds up every other writer.
  void together(const std::function<void()>& work);

  // Deletes logins, challenges, nonces, pending agents and unused enrollment tokens that are
  // expired.
  void forget_expired(WallTime now);
  // Deletes tokens and certificates that expired before, rekeys that ended before.
  void forget_history(WallTime before);

  // Receives what changed, as text of at most 200 bytes; empty: anything may have changed.
  using NotificationHandler = std::function<void(const std::string& what)>;
  // Calls `look` on a dedicated thread until the store is destroyed or stop_listening() returns:
  // with each notification of a replica, and without one at the start, after a possible loss of
  // notifications, and every `poll`. On SQLite the only replica receives its own notifications.
  // Call it at most once.
  void listen(NotificationHandler look, std::chrono::milliseconds poll);
  void stop_listening();
  // A hint: it may be lost, any user of the database may send one, and no decision relies on it.
  // Does not throw; call it after the change is committed.
  void notify(const std::string& what);

  // All of it, consistent, while others write. SQLite: into a new file (VACUUM INTO); PostgreSQL:
  // Error{kUnsupported} that names pg_dump.
  void backup(const std::string& path);
  // Copies from the store at order.url: the specifications with their access, which keys their
  // records are under, the records, and the credentials, without assignments; users when requested.
  // No agent, token, order, certificate, event, peer or policy. Reads a snapshot while that store
  // is in use, and changes nothing in it. All or nothing, with the event that is made of the
  // counts. Throws Error{kExists} when this store has such data, kConfiguration when there is no
  // store at the URL, kIntegrity when its schema is not the one of this program.
  CloneCounts clone(const CloneOrder& order, const std::function<Event(CloneCounts)>& event);
  // CloneOrder::source of the clone() that was done here; nullopt: none was.
  std::optional<std::string> cloned_from();

  // "sqlite 3.40.1, schema 2" for `keyinstanced check`.
  std::string describe();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keyagent::store
