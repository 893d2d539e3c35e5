// SPDX-License-Identifier: Apache-2.0
#include "agent/store/sealed_copies.h"

#include "agent/store/engine/table.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr Column<SealedCopy> kSealedCopyColumns[] = {
    column<&SealedCopy::agent>("agent").key(),           column<&SealedCopy::kid>("kid").key(),
    column<&SealedCopy::credential>("credential").key(), column<&SealedCopy::version>("version"),
    column<&SealedCopy::envelope>("envelope"),
};
constexpr Table<SealedCopy> kSealedCopies{"sealed_copies", kSealedCopyColumns};

}  // namespace

// The credential cannot be removed between the look and the copy: its row is locked.
bool SealedCopies::put(const SealedCopy& copy) {
  return db_.write([&](Sql& sql) {
    const auto newest = sql.first<std::int64_t>(
        std::string("SELECT version FROM credentials WHERE name = :name AND removed = 0") +
            sql.for_share(),
        {{"name", copy.credential}});
    if (!newest || copy.version < 1 || copy.version > *newest) return false;
    const auto agent = agent_in(sql, copy.agent, sql.for_share());
    if (agent && (agent->state == "revoked" ||
                  (copy.kid != agent->transport_kid && copy.kid != agent->next_transport_kid &&
                   copy.kid != agent->previous_transport_kid)))
      return false;
    return sql.run(kSealedCopies.insert() + "ON CONFLICT (agent, kid, credential) DO UPDATE SET " +
                       kSealedCopies.excluded() +
                       " WHERE sealed_copies.version <= excluded.version",
                   kSealedCopies.all(copy)) == 1;
  });
}

std::optional<SealedCopy> SealedCopies::find(const std::string& credential,
                                             const std::string& agent, const std::string& kid) {
  return db_.read([&](Sql& sql) {
    return sql.first("SELECT " + kSealedCopies.list("s.") +
                         " FROM sealed_copies s "
                         "JOIN credentials c ON c.name = s.credential AND c.version = s.version "
                         "WHERE s.agent = :agent AND s.kid = :kid AND s.credential = :credential",
                     {{"agent", agent}, {"kid", kid}, {"credential", credential}}, kSealedCopies);
  });
}

std::vector<SealedCopy> SealedCopies::all(const std::string& agent, const std::string& kid) {
  return db_.read([&](Sql& sql) {
    return sql.all(
        kSealedCopies.select() + "WHERE agent = :agent AND kid = :kid ORDER BY credential",
        {{"agent", agent}, {"kid", kid}}, kSealedCopies);
  });
}

std::vector<std::pair<std::string, std::int64_t>> SealedCopies::census(const std::string& agent) {
  return db_.read([&](Sql& sql) {
    return sql.all<std::string, std::int64_t>(
        "SELECT kid, count(*) FROM sealed_copies WHERE agent = :agent GROUP BY kid ORDER BY kid",
        {{"agent", agent}});
  });
}

void SealedCopies::drop(const std::string& agent, const std::string& kid) {
  db_.write([&](Sql& sql) {
    sql.run("DELETE FROM sealed_copies WHERE agent = :agent AND kid = :kid",
            {{"agent", agent}, {"kid", kid}});
  });
}

}  // namespace keyagent::store
