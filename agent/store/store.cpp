// SPDX-License-Identifier: Apache-2.0
#include "agent/store/store.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/store/schema.h"
#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

void sync_path(const std::filesystem::path& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0)
    throw Error(Code::kInternal, path.string() + " cannot be synced");
}

}  // namespace

Store::Store(Options options) : impl_(std::make_unique<Impl>(options)) {
  bring_up(impl_->db, migrations());
}

Store::~Store() = default;

std::optional<std::string> Store::setting(const std::string& name) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first<std::string>("SELECT value FROM settings WHERE name = :name",
                                  {{"name", name}});
  });
}

void Store::set_setting(const std::string& name, const std::string& value) {
  impl_->db.write([&](Sql& sql) {
    sql.run(
        "INSERT INTO settings (name, value) VALUES (:name, :value) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        {{"name", name}, {"value", value}});
  });
}

bool Store::set_setting_once(const std::string& name, const std::string& value) {
  return impl_->db.write([&](Sql& sql) {
    return sql.run(
               "INSERT INTO settings (name, value) VALUES (:name, :value) "
               "ON CONFLICT (name) DO NOTHING",
               {{"name", name}, {"value", value}}) == 1;
  });
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

std::string Store::describe() {
  return impl_->db.read([&](Sql& sql) {
    return engine_version(sql) + ", schema " + std::to_string(schema_version(sql));
  });
}

}  // namespace keyagent::store
