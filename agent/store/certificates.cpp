#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kSelect =
    "SELECT serial, agent, kid, not_before, not_after, revoked, reason, der FROM certificates ";

Certificate certificate_of(const Row& row) {
  return {.serial = row.text(0),
          .agent = row.text(1),
          .kid = row.text(2),
          .not_before = row.time(3),
          .not_after = row.time(4),
          .revoked = row.optional_time(5),
          .reason = row.text(6),
          .der = row.bytes(7)};
}

}  // namespace

void Store::add_certificate(const Certificate& c) {
  impl_->db.write([&](Sql& sql) {
    sql.run(
        "INSERT INTO certificates (serial, agent, kid, not_before, not_after, revoked, reason, "
        "der) "
        "VALUES (:serial, :agent, :kid, :not_before, :not_after, :revoked, :reason, :der)",
        {{"serial", c.serial},
         {"agent", c.agent},
         {"kid", c.kid},
         {"not_before", c.not_before},
         {"not_after", c.not_after},
         {"revoked", c.revoked},
         {"reason", c.reason},
         {"der", c.der}});
  });
}

std::vector<Certificate> Store::certificates(const std::string& agent) {
  return impl_->db.read([&](Sql& sql) {
    if (agent.empty()) return sql.all(kSelect + "ORDER BY not_before, serial", {}, certificate_of);
    return sql.all(kSelect + "WHERE agent = :agent ORDER BY not_before, serial", {{"agent", agent}},
                   certificate_of);
  });
}

std::vector<Certificate> Store::own_certificates() {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(kSelect + "WHERE agent = '' ORDER BY not_before, serial", {}, certificate_of);
  });
}

std::vector<Certificate> Store::revoked_certificates(WallTime now) {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(
        "SELECT serial, agent, kid, not_before, not_after, revoked, reason, '' FROM certificates "
        "WHERE revoked IS NOT NULL AND not_after > :now ORDER BY not_before, serial",
        {{"now", now}}, certificate_of);
  });
}

// The first revocation stands: its time is in CRLs that were handed out.
bool Store::revoke_certificate(const std::string& serial, WallTime when,
                               const std::string& reason) {
  return impl_->db.write([&](Sql& sql) {
    return sql.run(
               "UPDATE certificates SET revoked = :at, reason = :reason "
               "WHERE serial = :serial AND revoked IS NULL",
               {{"at", when}, {"reason", reason}, {"serial", serial}}) == 1;
  });
}

}  // namespace keyagent::store
