// SPDX-License-Identifier: Apache-2.0
#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kSelectSealedCopies =
    "SELECT s.credential, s.version, s.agent, s.kid, s.envelope FROM sealed_copies s ";

SealedCopy copy_of(const Row& row) {
  return {.credential = row.text(0),
          .version = row.number(1),
          .agent = row.text(2),
          .kid = row.text(3),
          .envelope = row.bytes(4)};
}

}  // namespace

// The credential cannot be removed between the look and the copy: its row is locked.
bool Store::put_sealed_copy(const SealedCopy& copy) {
  return impl_->db.write([&](Sql& sql) {
    const auto newest = sql.first(
        std::string("SELECT version FROM credentials WHERE name = :name AND removed = 0") +
            sql.for_share(),
        {{"name", copy.credential}}, [](const Row& row) { return row.number(0); });
    if (!newest || copy.version < 1 || copy.version > *newest) return false;
    const auto agent = agent_in(sql, copy.agent, sql.for_share());
    if (agent && (agent->state == "revoked" ||
                  (copy.kid != agent->transport_kid && copy.kid != agent->next_transport_kid &&
                   copy.kid != agent->previous_transport_kid)))
      return false;
    return sql.run(
               "INSERT INTO sealed_copies (agent, kid, credential, version, envelope) "
               "VALUES (:agent, :kid, :credential, :version, :envelope) "
               "ON CONFLICT (agent, kid, credential) DO UPDATE SET version = excluded.version, "
               "envelope = excluded.envelope WHERE sealed_copies.version <= excluded.version",
               {{"agent", copy.agent},
                {"kid", copy.kid},
                {"credential", copy.credential},
                {"version", copy.version},
                {"envelope", copy.envelope}}) == 1;
  });
}

std::optional<SealedCopy> Store::sealed_copy(const std::string& credential,
                                             const std::string& agent, const std::string& kid) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(kSelectSealedCopies +
                         "JOIN credentials c ON c.name = s.credential AND c.version = s.version "
                         "WHERE s.agent = :agent AND s.kid = :kid AND s.credential = :credential",
                     {{"agent", agent}, {"kid", kid}, {"credential", credential}}, copy_of);
  });
}

std::vector<SealedCopy> Store::sealed_copies(const std::string& agent, const std::string& kid) {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(
        kSelectSealedCopies + "WHERE s.agent = :agent AND s.kid = :kid ORDER BY s.credential",
        {{"agent", agent}, {"kid", kid}}, copy_of);
  });
}

std::vector<std::pair<std::string, std::int64_t>> Store::census(const std::string& agent) {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(
        "SELECT kid, count(*) FROM sealed_copies WHERE agent = :agent GROUP BY kid ORDER BY kid",
        {{"agent", agent}}, [](const Row& row) {
          return std::pair<std::string, std::int64_t>(row.text(0), row.number(1));
        });
  });
}

void Store::drop_sealed_copies(const std::string& agent, const std::string& kid) {
  impl_->db.write([&](Sql& sql) {
    sql.run("DELETE FROM sealed_copies WHERE agent = :agent AND kid = :kid",
            {{"agent", agent}, {"kid", kid}});
  });
}

}  // namespace keyagent::store
