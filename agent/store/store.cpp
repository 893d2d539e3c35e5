// SPDX-License-Identifier: Apache-2.0
#include "agent/store/store.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/store/agent_sessions.h"
#include "agent/store/agents.h"
#include "agent/store/audit_checkpoints.h"
#include "agent/store/certificates.h"
#include "agent/store/challenges.h"
#include "agent/store/clone.h"
#include "agent/store/credentials.h"
#include "agent/store/data_keys.h"
#include "agent/store/decisions.h"
#include "agent/store/engine/change_notifications.h"
#include "agent/store/engine/database.h"
#include "agent/store/enrollments.h"
#include "agent/store/events.h"
#include "agent/store/exchanges.h"
#include "agent/store/links.h"
#include "agent/store/logins.h"
#include "agent/store/peers.h"
#include "agent/store/records.h"
#include "agent/store/reencryptions.h"
#include "agent/store/rekeys.h"
#include "agent/store/restoration.h"
#include "agent/store/schema.h"
#include "agent/store/sealed_copies.h"
#include "agent/store/settings.h"
#include "agent/store/specifications.h"
#include "agent/store/tasks.h"
#include "agent/store/users.h"

namespace keyagent::store {
namespace {

void sync_path(const std::filesystem::path& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0)
    throw Error(Code::kInternal, path.string() + " cannot be synced");
}

}  // namespace

struct Store::Impl {
  explicit Impl(const Options& options) : db(options) {}

  Database db;
  ChangeNotifications wakeups{db.place()};
  Settings settings{db};
  Agents agents{db};
  AgentSessions agent_sessions{db};
  AuditCheckpoints audit_checkpoints{db};
  Links links{db};
  Enrollments enrollments{db};
  Challenges challenges{db};
  Users users{db};
  Logins logins{db};
  Credentials credentials{db};
  SealedCopies sealed_copies{db};
  Rekeys rekeys{db};
  Tasks tasks{db};
  Peers peers{db};
  Exchanges exchanges{db};
  Certificates certificates{db};
  Events events{db};
  Restoration restoration{db};
  Specifications specifications{db};
  DataKeys data_keys{db};
  Records records{db};
  Reencryptions reencryptions{db};
  Decisions decisions{db};
};

Store::Store(Options options) : impl_(std::make_unique<Impl>(options)) {
  bring_up(impl_->db, migrations());
}

Store::~Store() = default;

Settings& Store::settings() {
  return impl_->settings;
}

Agents& Store::agents() {
  return impl_->agents;
}

AgentSessions& Store::agent_sessions() {
  return impl_->agent_sessions;
}

AuditCheckpoints& Store::audit_checkpoints() {
  return impl_->audit_checkpoints;
}

Links& Store::links() {
  return impl_->links;
}

Enrollments& Store::enrollments() {
  return impl_->enrollments;
}

Challenges& Store::challenges() {
  return impl_->challenges;
}

Users& Store::users() {
  return impl_->users;
}

Logins& Store::logins() {
  return impl_->logins;
}

Credentials& Store::credentials() {
  return impl_->credentials;
}

SealedCopies& Store::sealed_copies() {
  return impl_->sealed_copies;
}

Rekeys& Store::rekeys() {
  return impl_->rekeys;
}

Tasks& Store::tasks() {
  return impl_->tasks;
}

Peers& Store::peers() {
  return impl_->peers;
}

Exchanges& Store::exchanges() {
  return impl_->exchanges;
}

Certificates& Store::certificates() {
  return impl_->certificates;
}

Events& Store::events() {
  return impl_->events;
}

Restoration& Store::restoration() {
  return impl_->restoration;
}

Specifications& Store::specifications() {
  return impl_->specifications;
}

DataKeys& Store::data_keys() {
  return impl_->data_keys;
}

Records& Store::records() {
  return impl_->records;
}

Reencryptions& Store::reencryptions() {
  return impl_->reencryptions;
}

Decisions& Store::decisions() {
  return impl_->decisions;
}

void Store::forget_expired(WallTime now) {
  impl_->db.write([&](Sql& sql) {
    sql.run("DELETE FROM logins WHERE expires <= :now", {{"now", now}});
    sql.run("DELETE FROM peer_nonces WHERE expires <= :now", {{"now", now}});
    sql.run("DELETE FROM challenges WHERE expires <= :now", {{"now", now}});
    sql.run("DELETE FROM enrolment_tokens WHERE expires <= :now AND used_by = ''", {{"now", now}});
    sql.run("DELETE FROM pending_agents WHERE expires <= :now", {{"now", now}});
  });
}

void Store::forget_history(WallTime before) {
  impl_->db.write([&](Sql& sql) {
    const Bounds bounds{{"before", before}};
    sql.run("DELETE FROM enrolment_tokens WHERE expires < :before", bounds);
    sql.run("DELETE FROM certificates WHERE not_after < :before", bounds);
    sql.run(
        "DELETE FROM rekeys WHERE changed < :before "
        "AND state IN ('confirmed', 'failed', 'cancelled')",
        bounds);
    sql.run(
        "DELETE FROM settings WHERE name LIKE 'rekey-batch/%' AND NOT EXISTS "
        "(SELECT 1 FROM rekeys WHERE 'rekey-batch/' || rekeys.batch = settings.name)");
  });
}

void Store::together(const std::function<void()>& work) {
  impl_->db.together(work);
}

void Store::listen(NotificationHandler handler, std::chrono::milliseconds poll) {
  impl_->wakeups.listen(std::move(handler), poll);
}

void Store::stop_listening() {
  impl_->wakeups.stop();
}

void Store::notify(const std::string& what) {
  try {
    if (impl_->db.place().engine == Engine::kSqlite) return impl_->wakeups.wake(what);
    impl_->db.write([&](Sql& sql) {
      sql.exists("SELECT pg_notify(:channel, :what)::text",
                 {{"channel", ChangeNotifications::kChannel}, {"what", what}});
    });
  } catch (const Error& error) {
    log_warning("store", std::string("the other replicas could not be notified: ") + error.what());
  }
}

// The empty file is made first: so it is 0600 from its first byte on, and an existing one is
// refused.
void Store::backup(const std::string& path) {
  if (impl_->db.place().engine != Engine::kSqlite)
    throw Error(Code::kUnsupported, "a store on PostgreSQL is backed up with pg_dump");
  if (!make_empty_file(path)) throw Error(Code::kConfiguration, path + " already exists");
  try {
    impl_->db.read([&](Sql& sql) { sql.run("VACUUM INTO :path", {{"path", path}}); });
    sync_path(path);
    sync_path(std::filesystem::absolute(path).parent_path());
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
    throw;
  }
}

CloneCounts Store::clone(const CloneOrder& order, const std::function<Event(CloneCounts)>& event) {
  return clone_into(impl_->db, order, event);
}

std::optional<std::string> Store::cloned_from() {
  return settings().get(kClonedFrom);
}

std::string Store::describe() {
  return impl_->db.read([&](Sql& sql) {
    return engine_version(sql) + ", schema " + std::to_string(schema_version(sql));
  });
}

}  // namespace keyagent::store
