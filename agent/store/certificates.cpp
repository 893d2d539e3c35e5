// SPDX-License-Identifier: Apache-2.0
#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kSelectCertificates =
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

void insert_certificate(Sql& sql, const Certificate& c) {
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
}

void Store::add_certificate(const Certificate& c) {
  impl_->db.write([&](Sql& sql) { insert_certificate(sql, c); });
}

// The agent's row stays as it was read until the commit: trust that ends later ends this
// certificate too, trust that ended before keeps it from being issued.
IssueOutcome Store::issue_certificate(const Certificate& c, const IssueBudget& budget, WallTime now,
                                      const Challenge* challenge, const std::string& from) {
  return impl_->db.write([&](Sql& sql) {
    const auto agent = agent_in(sql, c.agent, sql.for_update());
    if (!agent || agent->state != "trusted" || c.kid.empty() ||
        (c.kid != agent->auth_kid && c.kid != agent->next_auth_kid))
      return IssueOutcome::kNotTrusted;
    const auto count =
        sql.first("SELECT count(*) FROM certificates WHERE agent = :agent AND not_before > :since",
                  {{"agent", c.agent}, {"since", now - budget.within}},
                  [](const Row& row) { return row.number(0); });
    if (count.value() >= budget.count) return IssueOutcome::kOverBudget;
    if (challenge != nullptr && !move_challenge_in(sql, *challenge, from))
      return IssueOutcome::kGone;
    insert_certificate(sql, c);
    return IssueOutcome::kIssued;
  });
}

std::vector<Certificate> Store::certificates(const std::string& agent) {
  return impl_->db.read([&](Sql& sql) {
    if (agent.empty())
      return sql.all(kSelectCertificates + "ORDER BY not_before, serial", {}, certificate_of);
    return sql.all(kSelectCertificates + "WHERE agent = :agent ORDER BY not_before, serial",
                   {{"agent", agent}}, certificate_of);
  });
}

std::vector<Certificate> Store::own_certificates() {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(kSelectCertificates + "WHERE agent = '' ORDER BY not_before, serial", {},
                   certificate_of);
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

// What comes raises the greatest time of revocation, what expires was the first to expire.
std::string Store::revocation_mark(WallTime now) {
  return impl_->db.read([&](Sql& sql) {
    return sql
        .first(
            "SELECT count(*), coalesce(max(revoked), 0), coalesce(min(not_after), 0) "
            "FROM certificates WHERE revoked IS NOT NULL AND not_after > :now",
            {{"now", now}},
            [](const Row& row) {
              return std::to_string(row.number(0)) + " " + std::to_string(row.number(1)) + " " +
                     std::to_string(row.number(2));
            })
        .value();
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

void revoke_certificates(Sql& sql, const std::string& agent, WallTime now,
                         const std::string& reason) {
  sql.run(
      "UPDATE certificates SET revoked = :now, reason = :reason "
      "WHERE agent = :agent AND revoked IS NULL AND not_after > :now",
      {{"now", now}, {"reason", reason}, {"agent", agent}});
}

}  // namespace keyagent::store
