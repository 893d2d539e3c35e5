// SPDX-License-Identifier: Apache-2.0
#include "agent/store/schema.h"

#include <algorithm>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/error.h"

namespace keyagent::store {
namespace {

const Migration kFirst = {
    R"sql(CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL))sql",
    R"sql(CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL))sql",
    R"sql(INSERT INTO counters (name, value) VALUES ('events', 0), ('rekeys', 0))sql",

    R"sql(CREATE TABLE agents (
      id TEXT PRIMARY KEY, state TEXT NOT NULL, auth_spki TEXT NOT NULL,
      transport_spki TEXT NOT NULL, auth_kid TEXT NOT NULL, transport_kid TEXT NOT NULL,
      previous_transport_kid TEXT NOT NULL, envelope TEXT NOT NULL,
      next_auth_spki TEXT NOT NULL, next_auth_kid TEXT NOT NULL,
      next_transport_spki TEXT NOT NULL, next_transport_kid TEXT NOT NULL,
      next_envelope TEXT NOT NULL, host TEXT NOT NULL,
      version TEXT NOT NULL, group_names TEXT NOT NULL, approved_by TEXT NOT NULL,
      reason TEXT NOT NULL, enrolled BIGINT NOT NULL, changed BIGINT NOT NULL,
      last_seen BIGINT NOT NULL, revision BIGINT NOT NULL))sql",
    R"sql(CREATE UNIQUE INDEX agents_auth_kid ON agents (auth_kid) WHERE auth_kid <> '')sql",

    R"sql(CREATE TABLE enrolment_tokens (
      hash TEXT PRIMARY KEY, agent_id TEXT NOT NULL, group_names TEXT NOT NULL,
      created_by TEXT NOT NULL, expires BIGINT NOT NULL, used_by TEXT NOT NULL))sql",
    R"sql(CREATE INDEX enrolment_tokens_expires ON enrolment_tokens (expires))sql",

    R"sql(CREATE TABLE challenges (
      id TEXT PRIMARY KEY, kind TEXT NOT NULL, agent TEXT NOT NULL, state TEXT NOT NULL,
      data TEXT NOT NULL, expires BIGINT NOT NULL))sql",
    R"sql(CREATE INDEX challenges_expires ON challenges (expires))sql",

    R"sql(CREATE TABLE users (
      name TEXT PRIMARY KEY, role TEXT NOT NULL, password TEXT NOT NULL,
      spki_sha256 TEXT NOT NULL, disabled BIGINT NOT NULL))sql",
    R"sql(CREATE TABLE logins (
      hash TEXT PRIMARY KEY, user_name TEXT NOT NULL REFERENCES users (name),
      expires BIGINT NOT NULL))sql",
    R"sql(CREATE INDEX logins_expires ON logins (expires))sql",

    R"sql(CREATE TABLE credentials (
      name TEXT PRIMARY KEY, type TEXT NOT NULL, version BIGINT NOT NULL, blind BIGINT NOT NULL,
      envelope TEXT NOT NULL, agent_names TEXT NOT NULL, group_names TEXT NOT NULL,
      changed_by TEXT NOT NULL, changed BIGINT NOT NULL, removed BIGINT NOT NULL))sql",
    R"sql(CREATE TABLE sealed_copies (
      agent TEXT NOT NULL, kid TEXT NOT NULL,
      credential TEXT NOT NULL REFERENCES credentials (name), version BIGINT NOT NULL,
      envelope TEXT NOT NULL, PRIMARY KEY (agent, kid, credential)))sql",
    R"sql(CREATE INDEX sealed_copies_credential ON sealed_copies (credential))sql",

    R"sql(CREATE TABLE rekeys (
      id BIGINT PRIMARY KEY, batch TEXT NOT NULL, agent TEXT NOT NULL, key_name TEXT NOT NULL,
      state TEXT NOT NULL, old_kid TEXT NOT NULL, new_kid TEXT NOT NULL, ordered_by TEXT NOT NULL,
      detail TEXT NOT NULL, ordered BIGINT NOT NULL, changed BIGINT NOT NULL,
      canary BIGINT NOT NULL))sql",
    R"sql(CREATE INDEX rekeys_agent ON rekeys (agent, id))sql",
    R"sql(CREATE INDEX rekeys_open ON rekeys (id)
      WHERE state NOT IN ('confirmed', 'failed', 'cancelled'))sql",

    R"sql(CREATE TABLE certificates (
      serial TEXT PRIMARY KEY, agent TEXT NOT NULL, kid TEXT NOT NULL, not_before BIGINT NOT NULL,
      not_after BIGINT NOT NULL, revoked BIGINT, reason TEXT NOT NULL, der TEXT NOT NULL))sql",
    R"sql(CREATE INDEX certificates_agent ON certificates (agent, not_before))sql",

    R"sql(CREATE TABLE events (
      seq BIGINT PRIMARY KEY, happened BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
      subject TEXT NOT NULL, outcome TEXT NOT NULL, body TEXT NOT NULL))sql",
};

// The words of a partial index's condition are those of the queries in tasks.cpp.
const Migration kAddTasks = {
    R"sql(INSERT INTO counters (name, value) VALUES ('tasks', 0), ('task_pauses', 0))sql",
    R"sql(CREATE TABLE tasks (
      id TEXT PRIMARY KEY, number BIGINT NOT NULL, submit_key TEXT NOT NULL, digest TEXT NOT NULL,
      handler TEXT NOT NULL, target TEXT NOT NULL, agent TEXT NOT NULL, state TEXT NOT NULL,
      input TEXT NOT NULL, credential TEXT NOT NULL, priority BIGINT NOT NULL,
      repeatable BIGINT NOT NULL, attempt BIGINT NOT NULL, attempts BIGINT NOT NULL,
      seconds BIGINT NOT NULL, not_before BIGINT NOT NULL, submitted_by TEXT NOT NULL,
      submitted BIGINT NOT NULL, changed BIGINT NOT NULL, lease TEXT NOT NULL,
      lease_until BIGINT NOT NULL, lease_life BIGINT NOT NULL, cancelling BIGINT NOT NULL,
      said TEXT NOT NULL, detail TEXT NOT NULL, result TEXT NOT NULL,
      revision BIGINT NOT NULL))sql",
    R"sql(CREATE UNIQUE INDEX tasks_number ON tasks (number))sql",
    R"sql(CREATE UNIQUE INDEX tasks_submit_key ON tasks (submitted_by, submit_key)
      WHERE submit_key <> '')sql",
    R"sql(CREATE INDEX tasks_next ON tasks (target, handler, priority DESC, number)
      WHERE state = 'queued')sql",
    R"sql(CREATE INDEX tasks_not_before ON tasks (not_before) WHERE state = 'queued')sql",
    R"sql(CREATE INDEX tasks_lease ON tasks (state, lease_until)
      WHERE state IN ('leased', 'started'))sql",
    R"sql(CREATE INDEX tasks_state ON tasks (state, changed))sql",
    R"sql(CREATE TABLE task_pauses (
      what TEXT PRIMARY KEY, paused_by TEXT NOT NULL, paused BIGINT NOT NULL))sql",
};

// Replicas: who has which agent's link, and what was in one replica's memory.
const Migration kAddReplicas = {
    R"sql(CREATE TABLE links (
      agent TEXT PRIMARY KEY, replica TEXT NOT NULL, session BIGINT NOT NULL,
      address TEXT NOT NULL, tls_version TEXT NOT NULL, serial TEXT NOT NULL,
      since BIGINT NOT NULL, seen BIGINT NOT NULL, news BIGINT NOT NULL))sql",
    R"sql(CREATE INDEX links_replica ON links (replica))sql",
    R"sql(CREATE INDEX rekeys_batch ON rekeys (batch, state))sql",

    R"sql(CREATE TABLE login_failures (
      name TEXT PRIMARY KEY, failures BIGINT NOT NULL, expires BIGINT NOT NULL))sql",
    R"sql(CREATE INDEX login_failures_expires ON login_failures (expires))sql",
};

// Data that are encrypted under data keys.
const Migration kAddRecords = {
    R"sql(CREATE TABLE specifications (
      name TEXT PRIMARY KEY, access TEXT NOT NULL, created_by TEXT NOT NULL,
      changed_by TEXT NOT NULL, created BIGINT NOT NULL, changed BIGINT NOT NULL,
      revision BIGINT NOT NULL))sql",
    R"sql(CREATE TABLE data_keys (
      kid TEXT PRIMARY KEY, specification TEXT NOT NULL, source TEXT NOT NULL,
      noted BIGINT NOT NULL, closed BIGINT NOT NULL))sql",
    R"sql(CREATE INDEX data_keys_specification ON data_keys (specification))sql",
    R"sql(CREATE TABLE records (
      specification TEXT NOT NULL, id TEXT NOT NULL, kid TEXT NOT NULL, version BIGINT NOT NULL,
      envelope TEXT NOT NULL, changed_by TEXT NOT NULL, changed BIGINT NOT NULL,
      PRIMARY KEY (specification, id)))sql",
    R"sql(CREATE INDEX records_kid ON records (specification, kid, id))sql",
    R"sql(CREATE TABLE reencryptions (
      specification TEXT PRIMARY KEY, state TEXT NOT NULL, started_by TEXT NOT NULL,
      body TEXT NOT NULL, rate BIGINT NOT NULL, total BIGINT NOT NULL, done BIGINT NOT NULL,
      failed BIGINT NOT NULL, kid TEXT NOT NULL, position TEXT NOT NULL, started BIGINT NOT NULL,
      changed BIGINT NOT NULL, since BIGINT NOT NULL, since_done BIGINT NOT NULL,
      holder TEXT NOT NULL, lease_until BIGINT NOT NULL, fence BIGINT NOT NULL))sql",
};

// Requests for keys between instances. The condition of a partial index must match the text of the
// queries in exchanges.cpp.
const Migration kAddExchanges = {
    R"sql(INSERT INTO counters (name, value) VALUES ('exchanges', 0))sql",
    R"sql(CREATE TABLE peers (
      identity TEXT PRIMARY KEY, name TEXT NOT NULL, spki TEXT NOT NULL, url TEXT NOT NULL,
      ca TEXT NOT NULL, automatic TEXT NOT NULL, owner TEXT NOT NULL, epoch BIGINT NOT NULL,
      epoch_jws TEXT NOT NULL, added_by TEXT NOT NULL, added BIGINT NOT NULL, seen BIGINT NOT NULL,
      revision BIGINT NOT NULL))sql",
    R"sql(CREATE UNIQUE INDEX peers_name ON peers (name))sql",
    R"sql(CREATE TABLE peer_nonces (
      peer TEXT NOT NULL, nonce TEXT NOT NULL, expires BIGINT NOT NULL,
      PRIMARY KEY (peer, nonce)))sql",
    R"sql(CREATE INDEX peer_nonces_expires ON peer_nonces (expires))sql",

    R"sql(CREATE TABLE exchanges (
      id TEXT PRIMARY KEY, number BIGINT NOT NULL, side TEXT NOT NULL, own TEXT NOT NULL,
      peer TEXT NOT NULL, frequency TEXT NOT NULL, specifications TEXT NOT NULL,
      rekey BIGINT NOT NULL, state TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL,
      digest TEXT NOT NULL, requested_by TEXT NOT NULL, approved_by TEXT NOT NULL,
      period BIGINT NOT NULL, series TEXT NOT NULL, next_at BIGINT NOT NULL,
      created BIGINT NOT NULL, changed BIGINT NOT NULL, expires BIGINT NOT NULL,
      faults BIGINT NOT NULL, looks BIGINT NOT NULL, due BIGINT NOT NULL,
      exported BIGINT NOT NULL, told BIGINT NOT NULL, retried BIGINT NOT NULL,
      taken BIGINT NOT NULL, offer TEXT NOT NULL, transcript TEXT NOT NULL,
      own_statement TEXT NOT NULL, peer_statement TEXT NOT NULL,
      revision BIGINT NOT NULL))sql",
    R"sql(CREATE UNIQUE INDEX exchanges_number ON exchanges (number))sql",
    R"sql(CREATE INDEX exchanges_due ON exchanges (own, due) WHERE due > 0)sql",
    R"sql(CREATE INDEX exchanges_next ON exchanges (own, next_at) WHERE next_at > 0)sql",
    R"sql(CREATE INDEX exchanges_open ON exchanges (own)
      WHERE state IN ('pending', 'approved', 'exported', 'imported', 'verified'))sql",
    R"sql(CREATE TABLE exchange_keys (
      exchange TEXT NOT NULL REFERENCES exchanges (id), specification TEXT NOT NULL,
      kid TEXT NOT NULL, outcome TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL,
      package TEXT NOT NULL, PRIMARY KEY (exchange, specification, kid)))sql",
};

// A program that does not know it would take a credential whose value is a record for an empty one.
const Migration kAddCredentialRecords = {};

// Agents that wait for a person have their own rows, one per key; older ones stay in `agents`.
const Migration kAddEnrollments = {
    R"sql(ALTER TABLE enrolment_tokens ADD COLUMN inherit BIGINT NOT NULL DEFAULT 0)sql",
    R"sql(ALTER TABLE challenges ADD COLUMN address TEXT NOT NULL DEFAULT '')sql",
    R"sql(CREATE INDEX challenges_kind ON challenges (kind, address))sql",
    R"sql(CREATE TABLE pending_agents (
      id TEXT NOT NULL, auth_kid TEXT NOT NULL, state TEXT NOT NULL, auth_spki TEXT NOT NULL,
      transport_spki TEXT NOT NULL, transport_kid TEXT NOT NULL, envelope TEXT NOT NULL,
      host TEXT NOT NULL, version TEXT NOT NULL, reason TEXT NOT NULL, address TEXT NOT NULL,
      asked BIGINT NOT NULL, expires BIGINT NOT NULL, PRIMARY KEY (id, auth_kid)))sql",
    R"sql(CREATE INDEX pending_agents_address ON pending_agents (address))sql",
    R"sql(CREATE INDEX pending_agents_expires ON pending_agents (expires))sql",
    R"sql(INSERT INTO counters (name, value) VALUES ('pending_agents', 0))sql",
    R"sql(ALTER TABLE events ADD COLUMN repeats BIGINT NOT NULL DEFAULT 1)sql",
    R"sql(CREATE INDEX events_outcome ON events (outcome, seq))sql",
};

// Sessions with an idle limit. Those that began before have no time of their last use: they end.
const Migration kAddSessions = {
    R"sql(DELETE FROM logins)sql",
    R"sql(ALTER TABLE logins ADD COLUMN used BIGINT NOT NULL DEFAULT 0)sql",
    R"sql(CREATE INDEX logins_user ON logins (user_name))sql",
};

// Failed logins are counted by address, in each replica's memory.
const Migration kAddLoginFailures = {
    R"sql(DROP TABLE login_failures)sql",
};

// What waits for a second person.
const Migration kAddDecisions = {
    R"sql(CREATE TABLE decisions (
      id TEXT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, request TEXT NOT NULL,
      precondition TEXT NOT NULL, state TEXT NOT NULL, requested_by TEXT NOT NULL,
      decided_by TEXT NOT NULL, body TEXT NOT NULL, created BIGINT NOT NULL,
      changed BIGINT NOT NULL, expires BIGINT NOT NULL))sql",
    R"sql(CREATE INDEX decisions_state ON decisions (state, created))sql",
};

// The last session value of each agent (agent_sessions.cpp).
const Migration kAddAgentSessions = {
    R"sql(CREATE TABLE agent_sessions (
      agent TEXT PRIMARY KEY, enrolled BIGINT NOT NULL, value TEXT NOT NULL))sql",
};

// The newest checkpoint of each agent's audit log (audit_checkpoints.cpp).
const Migration kAddAuditCheckpoints = {
    R"sql(CREATE TABLE audit_checkpoints (
      agent TEXT PRIMARY KEY, enrolled BIGINT NOT NULL, size BIGINT NOT NULL, hash TEXT NOT NULL,
      kid TEXT NOT NULL, body TEXT NOT NULL, noted BIGINT NOT NULL))sql",
    R"sql(CREATE INDEX certificates_revoked ON certificates (not_after)
      WHERE revoked IS NOT NULL)sql",
};

// The first checkpoint of each day: a newer one does not replace it.
const Migration kAddCheckpointDays = {
    R"sql(CREATE TABLE audit_checkpoint_days (
      agent TEXT NOT NULL, day TEXT NOT NULL, enrolled BIGINT NOT NULL, size BIGINT NOT NULL,
      hash TEXT NOT NULL, kid TEXT NOT NULL, body TEXT NOT NULL, noted BIGINT NOT NULL,
      PRIMARY KEY (agent, day)))sql",
};

const Migration kAll[] = {kFirst,
                          kAddTasks,
                          kAddReplicas,
                          kAddRecords,
                          kAddExchanges,
                          kAddCredentialRecords,
                          kAddEnrollments,
                          kAddSessions,
                          kAddLoginFailures,
                          kAddDecisions,
                          kAddAgentSessions,
                          kAddAuditCheckpoints,
                          kAddCheckpointDays};

// Creates the table of executed migrations before the first one runs.
void prepare(Sql& sql) {
  if (sql.engine() == Engine::kSqlite) {
    const auto tables = sql.all<std::string>("SELECT name FROM sqlite_master WHERE type = 'table'");
    if (!tables.empty() && std::find(tables.begin(), tables.end(), "store_schema") == tables.end())
      throw Error(Code::kIntegrity, "the SQLite file is not a keyagent store");
  }
  sql.run(schema_words(sql.engine(), R"sql(CREATE TABLE IF NOT EXISTS store_schema (
      version BIGINT PRIMARY KEY, applied BIGINT NOT NULL))sql"));
}

}  // namespace

std::span<const Migration> migrations() {
  return kAll;
}

int schema_version(Sql& sql) {
  return static_cast<int>(sql.count("SELECT coalesce(max(version), 0) FROM store_schema"));
}

void bring_up(Database& database, std::span<const Migration> steps) {
  const auto known = static_cast<int>(steps.size());
  for (int version = -1; version < known;) {
    version = database.write([&](Sql& sql) {
      lock_schema(sql);
      prepare(sql);
      const int found = schema_version(sql);
      if (found > known)
        throw Error(Code::kIntegrity, "the store has schema " + std::to_string(found) +
                                          ", this program supports " + std::to_string(known) +
                                          "; use the newer program; nothing was changed");
      if (found == known) return found;
      for (const char* statement : steps[static_cast<std::size_t>(found)])
        sql.run(schema_words(sql.engine(), statement));
      sql.run("INSERT INTO store_schema (version, applied) VALUES (:version, :applied)",
              {{"version", found + 1}, {"applied", system_clock().now()}});
      return found + 1;
    });
  }
}

}  // namespace keyagent::store
