// SPDX-License-Identifier: Apache-2.0
#include "agent/store/certificates.h"

#include "agent/store/engine/table.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr Column<Certificate> kCertificateColumns[] = {
    column<&Certificate::serial>("serial").key(),
    column<&Certificate::agent>("agent"),
    column<&Certificate::kid>("kid"),
    column<&Certificate::not_before>("not_before"),
    column<&Certificate::not_after>("not_after"),
    column<&Certificate::revoked>("revoked"),
    column<&Certificate::reason>("reason"),
    column<&Certificate::der>("der"),
};
constexpr Table<Certificate> kCertificates{"certificates", kCertificateColumns};

}  // namespace

void insert_certificate(Sql& sql, const Certificate& c) {
  sql.run(kCertificates.insert(), kCertificates.all(c));
}

void Certificates::add(const Certificate& c) {
  db_.write([&](Sql& sql) { insert_certificate(sql, c); });
}

// The agent's row stays as it was read until the commit: trust that ends later ends this
// certificate too, trust that ended before keeps it from being issued.
IssueOutcome Certificates::issue(const Certificate& c, const IssueBudget& budget, WallTime now,
                                 const Challenge* challenge, const std::string& from) {
  return db_.write([&](Sql& sql) {
    const auto agent = agent_in(sql, c.agent, sql.for_update());
    if (!agent || agent->state != "trusted" || c.kid.empty() ||
        (c.kid != agent->auth_kid && c.kid != agent->next_auth_kid))
      return IssueOutcome::kNotTrusted;
    const auto count =
        sql.count("SELECT count(*) FROM certificates WHERE agent = :agent AND not_before > :since",
                  {{"agent", c.agent}, {"since", now - budget.within}});
    if (count >= budget.count) return IssueOutcome::kOverBudget;
    if (challenge != nullptr && !move_challenge_in(sql, *challenge, from))
      return IssueOutcome::kGone;
    insert_certificate(sql, c);
    return IssueOutcome::kIssued;
  });
}

std::vector<Certificate> Certificates::list(const std::string& agent) {
  return db_.read([&](Sql& sql) {
    if (agent.empty())
      return sql.all(kCertificates.select() + "ORDER BY not_before, serial", {}, kCertificates);
    return sql.all(kCertificates.select() + "WHERE agent = :agent ORDER BY not_before, serial",
                   {{"agent", agent}}, kCertificates);
  });
}

std::vector<Certificate> Certificates::own() {
  return db_.read([&](Sql& sql) {
    return sql.all(kCertificates.select() + "WHERE agent = '' ORDER BY not_before, serial", {},
                   kCertificates);
  });
}

std::vector<Certificate> Certificates::revoked(WallTime now) {
  return db_.read([&](Sql& sql) {
    return sql.all(kCertificates.select({"der"}) +
                       "WHERE revoked IS NOT NULL AND not_after > :now ORDER BY not_before, serial",
                   {{"now", now}}, kCertificates);
  });
}

// What comes raises the greatest time of revocation, what expires was the first to expire.
std::string Certificates::revocation_mark(WallTime now) {
  return db_.read([&](Sql& sql) {
    const auto mark = sql.first<std::int64_t, std::int64_t, std::int64_t>(
        "SELECT count(*), coalesce(max(revoked), 0), coalesce(min(not_after), 0) "
        "FROM certificates WHERE revoked IS NOT NULL AND not_after > :now",
        {{"now", now}});
    const auto [count, revoked, expires] = mark.value();
    return std::to_string(count) + " " + std::to_string(revoked) + " " + std::to_string(expires);
  });
}

// The first revocation stands: its time is in CRLs that were handed out.
bool Certificates::revoke(const std::string& serial, WallTime when, const std::string& reason) {
  return db_.write([&](Sql& sql) {
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
