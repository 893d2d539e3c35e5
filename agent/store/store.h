// SPDX-License-Identifier: Apache-2.0
#pragma once
// The instance's store: agents and their trust, enrollment tokens, people, credentials, sealed
// copies, rekeys, tasks, certificates and events. One schema on SQLite and on PostgreSQL.
//
// Replicas share one PostgreSQL: every change that depends on what was read happens in one
// transaction, and a change that lost a race is never applied: its return value says so.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/bytes.h"
#include "agent/base/clock.h"
#include "agent/store/enroll_rows.h"
#include "agent/store/rows.h"

namespace keyagent::store {

struct Options {
  std::string url;  // "sqlite:///var/lib/keyinstanced/instance.db" or "postgresql://…" (libpq URI,
                    // no password in it: passfile or peer authentication)
  std::size_t connections = 4;
};

struct TaskFilter {
  std::string state{}, agent{}, handler{};  // empty: any; agent: who has it, or whom it is for
  std::int64_t after = 0;                   // a task's number
  std::size_t count = 100;
};
struct RekeyCounts {
  std::int64_t under_way = 0, failed = 0, open_canaries = 0;
};
struct ExchangeFilter {
  std::string own{}, state{}, peer{}, side{};  // empty: any, but for own
  std::size_t count = 100;
};
struct CloneOrder {
  std::string url;     // the store to copy from
  std::string source;  // the identity of its instance, for cloned_from()
  bool users = false;
};
struct CloneCounts {
  std::int64_t specifications = 0, data_keys = 0, records = 0, credentials = 0, users = 0;
};
struct TaskClaim {
  std::string agent;
  std::vector<std::string> targets, handlers;
  Bytes lease;  // SHA-256 of its secret
  WallTime now;
  std::chrono::milliseconds life{};
  std::string auth_kid{};  // not empty: only while the agent is trusted with this key, and for
                           // those of its targets that are its own then
};

// What is written together with an agent, or not at all.
struct AgentChange {
  std::optional<Event> event{};
  std::string revoke{};                  // reason: all its certificates that are still valid
  std::optional<Challenge> challenge{};  // moved from `challenge_from`
  std::string challenge_from{};
  bool forget_session = false;  // whatever the agent says next is taken
};

// Thread-safe: a pool of connections. Every method throws Error: kPeer when the database cannot be
// reached (retryable; when the text says so, it is not known whether the change was made),
// kBusy when it is locked or all connections are in use for too long (retryable, nothing was
// changed), kIntegrity when it is damaged or newer than this program, kExists for what is there
// already, kUsage for text that is not UTF-8 or has a NUL in it, kInternal else. Times are stored
// with millisecond precision, rounded down.
class Store {
 public:
  explicit Store(Options options);  // opens and brings the schema up to date
  ~Store();

  // Settings: the instance's id, its CA certificate, …
  std::optional<std::string> setting(const std::string& name);
  void set_setting(const std::string& name, const std::string& value);
  // True for the one caller that wrote it first; nothing is changed for the others.
  bool set_setting_once(const std::string& name, const std::string& value);

  // False: an agent with this id, or with this auth_kid, is there.
  bool add_agent(const Agent& agent);
  std::optional<Agent> agent(const std::string& id);
  std::optional<Agent> agent_by_auth_kid(const std::string& kid);
  std::vector<Agent> agents();
  // Writes all but last_seen if the row still has agent.revision, and raises it, with what belongs
  // to it. False, and nothing is changed: someone was faster, or the challenge was moved.
  bool update_agent(const Agent& agent, const AgentChange& with = {});
  void seen(const std::string& agent_id, WallTime when);

  void add_enrolment_token(const EnrollmentToken& token);
  // Not used, not expired at `now`, good for this id.
  std::optional<EnrollmentToken> enrollment_token(const Bytes& hash, const std::string& agent_id,
                                                  WallTime now);

  using EnrolledEvent = std::function<Event(const Enrolled&)>;
  // What enroll() or ask_approval() would find now; nothing is changed.
  Enrolled would_enroll(const Enrollment& enrollment);
  // Decides and acts in one transaction: with a token. The token and the challenge are used up and
  // the event is recorded only when the agent is entered, replaced or known. An agent that is
  // replaced loses its certificates, sealed copies and open rekeys, and, unless the token lets it
  // inherit, its groups and assignments; others that wait for its id are dropped.
  // Throws Error{kBusy}: it was changed at the same moment.
  Enrolled enroll(const Enrollment& enrollment, const EnrolledEvent& event);
  // The same without a token: kPending, or what is in the way.
  Enrolled ask_approval(const Enrollment& enrollment, const PendingLimits& limits,
                        const EnrolledEvent& event);
  // Those that wait or were rejected, not expired; of one id or of all.
  std::vector<PendingAgent> pending_agents(const std::string& id, WallTime now);
  // A person approves this fingerprint: kEntered, or what is in the way by now.
  Enrolled approve_pending(const std::string& id, const std::string& auth_kid,
                           const std::string& approver, WallTime now, const EnrolledEvent& event);
  // Of an id, one fingerprint or (empty) all. How many.
  std::int64_t reject_pending(const std::string& id, const std::string& auth_kid,
                              const std::string& reason, const Event& event);

  void add_challenge(const Challenge& challenge, WallTime now);  // drops those that have expired
  std::optional<Challenge> challenge(const std::string& id, WallTime now);  // not expired
  std::vector<Challenge> challenges(const std::string& kind, WallTime now);
  // Changes state, data and expiry if it is still in state `from`.
  bool move_challenge(const Challenge& challenge, const std::string& from);
  // Not expired; of one address (empty: all).
  std::int64_t count_challenges(const std::string& kind, const std::string& address, WallTime now);

  bool add_user(const User& user);  // false: there is one of this name
  // Writes `after` if the row still is `before`, ends all sessions of the user, and records the
  // event. Returns how many sessions ended; nullopt, and nothing is changed: it is another row now.
  // Throws Error{kKeyState}, and changes nothing: `before` is enabled with the role floor.role,
  // `after` is not, and fewer than floor.count such users would remain.
  std::optional<std::int64_t> update_user(const User& before, const User& after, const Event& event,
                                          const RoleFloor& floor = {});
  std::optional<User> user(const std::string& name);
  std::vector<User> users();
  // False, and nothing is added: the user's row is no longer `checked`, whose password was
  // verified.
  bool add_login(const LoginSession& session, const User& checked);
  // The session's user, and the session was used at `now`. nullopt: unknown, expired, not used for
  // `idle`, or its user is disabled.
  std::optional<User> use_login(const Bytes& hash, WallTime now, std::chrono::milliseconds idle);
  void remove_login(const Bytes& hash);
  // All sessions of a user; returns how many there were. The event is recorded with it.
  std::int64_t remove_logins(const std::string& user, const Event& event);
  // Deletes logins, challenges and unused enrollment tokens that are expired.
  void forget_expired(WallTime now);

  // Adds a version, which is set by the store and returned, with its value (of kCredentialData; its
  // version is the credential's); nullptr: a blind one. The value of the version before is not
  // kept. kClosed, and nothing is changed: as for put_record(). kMoved, and nothing is changed: it
  // is not this version that it would get, credential.version (0: whichever it is).
  RecordPut put_credential(const Credential& credential, const Record* value);
  // The value that was in credential.envelope, as its record. kConflict, and nothing is changed: it
  // has another version by now, or was moved.
  RecordPut move_credential(const Credential& credential, const Record& value);
  bool assign_credential(const std::string& name, const std::vector<std::string>& agents,
                         const std::vector<std::string>& groups);
  std::optional<Credential> credential(const std::string& name);  // newest version, also removed
  std::vector<Credential> credentials();                          // newest versions, not removed
  bool remove_credential(const std::string& name);  // its value and its sealed copies too
  // Replaces the one of the same (credential, agent, kid). False, and nothing is changed: the
  // credential is removed or has no such version, a copy of a newer version is there, or the agent
  // was revoked or has another key by now.
  bool put_sealed_copy(const SealedCopy& copy);
  std::optional<SealedCopy> sealed_copy(const std::string& credential, const std::string& agent,
                                        const std::string& kid);  // of the newest version
  // Of any version: an old one stays until a newer replaces it.
  std::vector<SealedCopy> sealed_copies(const std::string& agent, const std::string& kid);
  // How many sealed copies name each kid of this agent.
  std::vector<std::pair<std::string, std::int64_t>> census(const std::string& agent);
  void drop_sealed_copies(const std::string& agent, const std::string& kid);

  std::int64_t add_rekey(const Rekey& rekey);
  // All of them, or none; `setting` says how the batch is to be done.
  void add_rekeys(const std::vector<Rekey>& rekeys, const std::string& setting,
                  const std::string& value);
  std::optional<Rekey> rekey(std::int64_t id);
  std::vector<Rekey> rekeys(const std::string& agent, bool open_only);  // empty agent: all
  std::vector<Rekey> rekey_batch(const std::string& batch);
  std::vector<std::string> ordered_batches();  // those with an order that was not sent yet
  RekeyCounts count_rekeys(const std::string& batch);
  // Those in state "ordered" whose agent has its link at this replica, canaries alone or all.
  std::vector<Rekey> ready_rekeys(const std::string& batch, const std::string& replica,
                                  bool canaries, std::size_t count);
  std::vector<Rekey> sent_rekeys(const std::string& agent);  // in progress; empty agent: of all
  // Changes state, kids and detail if it is still in state `from`.
  bool move_rekey(const Rekey& rekey, const std::string& from);
  // The same to "confirmed", while the agent is trusted with rekey.new_kid.
  bool confirm_rekey(const Rekey& rekey, const std::string& from);
  // From "ordered" to "sent", each for one replica alone, while of the batch fewer than `most` are
  // under way, none has failed, and all canaries have ended (or it is one). Returns those claimed.
  std::vector<Rekey> claim_rekeys(const std::string& batch, const std::vector<Rekey>& wanted,
                                  std::int64_t most, WallTime now);

  // The newest link of an agent is its only one; `session` and `news` are set by the store. It is
  // seen now.
  EnteredLink open_link(const AgentLink& link);
  // Seen, and its agent too. False: it is not the agent's link anymore.
  // The agent's session begins. `last`: the value that it knows this store to have; `next`: the one
  // that is to be there now; both empty: an agent that keeps none. False: the store has another,
  // so that two have gone on from one state.
  bool continue_session(const std::string& agent, WallTime enrolled, const std::string& last,
                        const std::string& next);
  // Keeps this checkpoint if it is newer than the one that is there. Returns the one that is there
  // afterwards: an equal one, or another that is as new or newer, which stays. nullopt, and nothing
  // is changed: the agent is not trusted, or has enrolled again since.
  std::optional<AuditCheckpoint> keep_audit_checkpoint(const AuditCheckpoint& checkpoint);
  std::optional<AuditCheckpoint> audit_checkpoint(const std::string& agent, WallTime enrolled);
  // False, and no event: there is none.
  bool forget_audit_checkpoint(const std::string& agent, const Event& event);
  bool record_heartbeat(const std::string& agent, std::int64_t session, WallTime now);
  void close_link(const std::string& agent, std::int64_t session);
  void bump_generation(const std::string& agent);
  std::optional<AgentLink> link(const std::string& agent);
  // The links that are at this replica; all, or of one agent.
  std::vector<LinkStatus> link_status(const std::string& replica, const std::string& agent);

  // The task as it is in the store: the new one, numbered, or the one that the same submitter has
  // given the same key. nullopt, and nothing is changed: `max_open` have not ended. The event is
  // recorded with a new one.
  std::optional<Task> add_task(const Task& task, std::size_t max_open, const Event& event);
  std::optional<Task> task(const std::string& id);
  std::vector<Task> tasks(const TaskFilter& filter);  // without inputs and results
  // Takes the next queued task for one of these targets and handlers, by priority and submission,
  // unless it is paused: leased, its attempt counted. No one else gets it. Before it what the same
  // agent took and did not start, under a new lease.
  std::optional<Task> take_task(const TaskClaim& claim);
  // Writes what may change of a task if the row still has task.revision, and raises it; the event
  // with it. False, and nothing is changed: someone was faster.
  bool move_task(const Task& task, const std::optional<Event>& event = std::nullopt);
  // Leased or started, their lease over at `now`; without inputs and results.
  std::vector<Task> lapsed_tasks(WallTime now, std::size_t count);
  // After the clock has jumped: no lease lasts longer than it was given for, no attempt waits
  // beyond `longest_wait`. Returns the longest life of an open lease.
  std::chrono::milliseconds settle_leases(WallTime now, WallTime longest_wait);
  // The targets of queued tasks that may be taken after `from`, at `until` the latest.
  std::vector<std::string> waiting_targets(WallTime from, WallTime until);
  bool tasks_wait(const std::vector<std::string>& targets, WallTime now);
  std::vector<std::pair<std::string, std::int64_t>> count_tasks();  // by state
  std::int64_t running_tasks(const std::string& what);  // leased or started, of all or of a pause
  void forget_tasks(WallTime ended_before);
  // Once it has returned nothing is handed out that it is about. False: it was so already.
  bool pause_tasks(const TaskPause& pause, const Event& event);
  bool resume_tasks(const std::string& what, const Event& event);
  std::vector<TaskPause> task_pauses();

  bool add_peer(const Peer& peer);  // false: there is one of this name or identity
  std::optional<Peer> peer(const std::string& identity);
  std::vector<Peer> peers();  // by name
  // Route, name, key and policy if the row still has peer.revision, and raises it. False: someone
  // was faster.
  bool update_peer(const Peer& peer);
  bool remove_peer(const std::string& identity);
  // Pinned again, with its policy and its requests. False, and nothing is changed: there is no peer
  // `before`, or there is one `after`.
  bool replace_peer(const std::string& before, const std::string& after);
  // What is of this instance's own identity `before`, requests and policies, is of `after` now.
  void replace_own_identity(const std::string& before, const std::string& after,
                            const Event& event);
  // Seen, and its epoch where that is greater than what is known.
  void note_peer(const std::string& identity, std::int64_t epoch, const std::string& epoch_jws,
                 WallTime now);
  // True once for each nonce of a peer, until it is expired and forgotten.
  bool use_nonce(const std::string& peer, const std::string& nonce, WallTime expires);

  // Numbered, with the event. False, and nothing is changed: there is one of this id.
  // Error{kBusy}: `max_open` of this end have not ended.
  bool add_exchange(const Exchange& exchange, std::size_t max_open, const Event& event);
  std::optional<Exchange> exchange(const std::string& id);
  std::vector<Exchange> exchanges(const ExchangeFilter& filter);  // the newest first
  // Changes what changes in its life if the row still has exchange.revision, and raises it. `keys`
  // take the place of all that it had (nullptr: they stay); packages are kept only while it is
  // approved or exported. The event is recorded with it. False, and nothing is changed: someone
  // was faster.
  bool move_exchange(const Exchange& exchange, const std::vector<ExchangeKey>* keys = nullptr,
                     const std::optional<Event>& event = std::nullopt);
  // As move_exchange(), while the peer still has peer.revision; its policy becomes peer.automatic
  // with it. So a policy approves what it covers when it approves, and a one-time one once.
  bool approve_by_policy(const Exchange& exchange, const Peer& peer, const Event& event);
  // By specification and kid.
  std::vector<ExchangeKey> exchange_keys(const std::string& id);
  // Was there ever one, of whatever identity?
  bool has_exchanges();
  // Of this identity: something is to be done by `now`, or the series continues.
  std::vector<Exchange> due_exchanges(const std::string& own, WallTime now, std::size_t count);

  void add_certificate(const Certificate& certificate);
  // Of a trusted agent's auth key or next one, within its budget; the challenge is moved with it.
  // Anything but kIssued: nothing is changed.
  IssueOutcome issue_certificate(const Certificate& certificate, const IssueBudget& budget,
                                 WallTime now, const Challenge* challenge = nullptr,
                                 const std::string& from = {});
  std::vector<Certificate> certificates(const std::string& agent);  // empty: all
  std::vector<Certificate> own_certificates();                      // of no agent: the instance's
  // Another value whenever revoked_certificates() is another list.
  std::string revocation_mark(WallTime now);
  std::vector<Certificate> revoked_certificates(WallTime now);  // not expired; without their DER
  bool revoke_certificate(const std::string& serial, WallTime when, const std::string& reason);

  // Numbers are given without gaps, and become visible in their order. What is not UTF-8 is
  // escaped.
  std::int64_t add_event(const Event& event);
  std::vector<Event> events(std::int64_t after_seq, std::size_t count);
  // Of a kind: "done", "refused" (with "failed") or "alarm".
  std::int64_t count_events(const std::string& outcome);
  // Keeps the newest `most` of a kind, and none from before. How many have gone; numbers continue.
  std::int64_t forget_events(const std::string& outcome, std::int64_t most, WallTime before);
  // Tokens and certificates that expired before, rekeys that ended before.
  void forget_history(WallTime before);
  std::int64_t count_agents();
  std::int64_t count_tokens(WallTime now);  // unused, not expired
  std::int64_t last_event();                // its number; 0: there is none

  // A store that was restored from a backup, until someone has accepted it.
  std::optional<Restored> restored();
  // Nothing unless it is beyond the last event and what is known. True: it was not known, and the
  // event was recorded.
  bool note_restored(const Restored& seen, const Event& event);
  // Counts events on from beyond the greatest one seen, drops enrollment tokens that are not used
  // here (they may have been, since the backup), and records the event. False: it is not restored,
  // or a greater `epoch` than the one that is accepted was seen meanwhile.
  bool accept_restored(const Event& event, std::int64_t epoch);

  // False: there is one of this name. The event is recorded with it.
  bool add_specification(const Specification& specification, const Event& event);
  std::optional<Specification> specification(const std::string& name);
  std::vector<Specification> specifications();
  // Writes its access if the row still has specification.revision. False: someone was faster.
  bool update_specification(const Specification& specification, const Event& event);
  bool note_data_key(const DataKey& key);  // false: it is known
  std::vector<DataKey> data_keys(const std::string& specification);
  // Once it has returned no record comes under this key anymore. False: it was so already.
  bool close_data_key(const std::string& kid);

  // Writes the record with its next version. kConflict: it is not at `expected` (0: it must not be
  // there; nullopt: whatever is there). kClosed: its key is closed or was not noted. kMoved: it
  // would not be record.version (0: whichever it is).
  RecordPut put_record(const Record& record, const std::optional<std::int64_t>& expected);
  std::optional<Record> record(const std::string& specification, const std::string& id);
  // Of its row, which a removed record keeps; 0: there never was one.
  std::int64_t record_version(const std::string& specification, const std::string& id);
  // Another envelope of the same value, if the row still has this version and envelope. False, and
  // nothing is changed: it has not, or the key of `fresh` is closed.
  bool replace_envelope(const Record& record, const Record& fresh);
  // By id, from beyond `after`; without envelopes.
  std::vector<Record> records(const std::string& specification, const std::string& after,
                              std::size_t count);
  std::vector<Record> records_under(const std::string& specification, const std::string& kid,
                                    const std::string& after, std::size_t count);
  bool remove_record(const std::string& specification, const std::string& id, const Event& event);
  // How many records name each kid.
  std::vector<std::pair<std::string, std::int64_t>> count_records(const std::string& specification);

  // False: one of this specification is running or paused. Another one takes the place of the last.
  bool begin_reencryption(const Reencryption& job, const Event& event);
  std::optional<Reencryption> reencryption(const std::string& specification);
  std::vector<Reencryption> reencryptions();
  // A running one that no one works at, or whose lease is over (or longer than two are), for this
  // holder alone; its fence is raised.
  std::optional<Reencryption> claim_reencryption(const std::string& holder, WallTime now,
                                                 std::chrono::milliseconds life);
  // Writes it if the row still has job.fence, and raises that.
  bool move_reencryption(const Reencryption& job, const std::optional<Event>& event = std::nullopt);
  // The checkpoint with what it is about: each record that still has the envelope `before` gets
  // `after`, unless that one's key was closed meanwhile. How many did; nullopt, and nothing is
  // changed: the row has another fence. `done` of the row grows by them.
  std::optional<std::int64_t> write_reencrypted(const Reencryption& job,
                                                const std::vector<Replacement>& replacements);

  // Whatever this thread asks of the store inside of `work` is one transaction: all or nothing,
  // undone when `work` throws. `work` may be run again after a deadlock. Nothing slow belongs in
  // it: on SQLite it holds up every other writer.
  void together(const std::function<void()>& work);

  // The decision as it is in the store: the new one, or a pending one of the same person about the
  // same. nullopt, and nothing is changed: `max_open` of this person are pending.
  std::optional<Decision> add_decision(const Decision& decision, std::size_t max_open,
                                       const Event& event);
  std::optional<Decision> decision(const std::string& id);
  std::vector<Decision> decisions(const std::string& state, std::size_t count);  // the newest first
  // Changes state, decider, text and time if it still is pending. False: it is not.
  bool decide(const Decision& decision, const Event& event);
  std::vector<Decision> expired_decisions(WallTime now, std::size_t count);
  void forget_decisions(WallTime changed_before);  // that are not pending

  // Where to look, for what it is called with: text of at most 200 bytes. Empty: everywhere.
  using NotificationHandler = std::function<void(const std::string& what)>;
  // Calls `look` on its own thread until the store ends or stop_listening() returns: with what
  // any replica notified, and everywhere at its start, after notices may have been lost, and each
  // `poll`. On SQLite there is one replica, and it hears itself. At most once.
  void listen(NotificationHandler look, std::chrono::milliseconds poll);
  void stop_listening();
  // A hint: it may be lost, anyone at the database may send one, and no decision rests on it. Never
  // throws; what it is about must be in the store already.
  void notify(const std::string& what);

  // All of it, consistent, while others write. SQLite: into a new file (VACUUM INTO); PostgreSQL:
  // Error{kUnsupported} that names pg_dump.
  void backup(const std::string& path);
  // What a copy has of the store at order.url: the specifications with their access, which keys
  // their records are under, the records, and the credentials, assigned to no one; users where they
  // are asked for. No agent, token, order, certificate, event, peer or policy. It is read as it was
  // at one moment, while it is used, and nothing is changed there. All or nothing, with the event
  // that is made of the counts.
  // Throws Error{kExists} when this store has such data, kConfiguration when there is no store at
  // the URL, kIntegrity when it is none of this program's schema.
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
