// SPDX-License-Identifier: Apache-2.0
#include "agent/store/challenges.h"

#include "agent/store/engine/table.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr Column<Challenge> kChallengeColumns[] = {
    column<&Challenge::id>("id").key(),
    column<&Challenge::kind>("kind").fixed(),
    column<&Challenge::agent>("agent").fixed(),
    column<&Challenge::state>("state"),
    column<&Challenge::data>("data"),
    column<&Challenge::expires>("expires"),
    column<&Challenge::address>("address").fixed(),
};
constexpr Table<Challenge> kChallenges{"challenges", kChallengeColumns};

}  // namespace

void Challenges::add(const Challenge& challenge, WallTime now) {
  db_.write([&](Sql& sql) {
    sql.run("DELETE FROM challenges WHERE expires <= :now", {{"now", now}});
    sql.run(kChallenges.insert(), kChallenges.all(challenge));
  });
}

std::optional<Challenge> Challenges::find(const std::string& id, WallTime now) {
  return db_.read([&](Sql& sql) {
    return sql.first(kChallenges.select() + "WHERE id = :id AND expires > :now",
                     {{"id", id}, {"now", now}}, kChallenges);
  });
}

std::vector<Challenge> Challenges::all(const std::string& kind, WallTime now) {
  return db_.read([&](Sql& sql) {
    return sql.all(kChallenges.select() + "WHERE kind = :kind AND expires > :now ORDER BY id",
                   {{"kind", kind}, {"now", now}}, kChallenges);
  });
}

bool move_challenge_in(Sql& sql, const Challenge& challenge, const std::string& from) {
  auto bounds = kChallenges.changes(challenge, {"id"});
  bounds.push_back({"from_state", from});
  return sql.run(kChallenges.update() + " WHERE id = :id AND state = :from_state", bounds) == 1;
}

bool Challenges::move(const Challenge& challenge, const std::string& from) {
  return db_.write([&](Sql& sql) { return move_challenge_in(sql, challenge, from); });
}

std::int64_t Challenges::count(const std::string& kind, const std::string& address, WallTime now) {
  return db_.read([&](Sql& sql) {
    return sql.count(
        "SELECT count(*) FROM challenges WHERE kind = :kind AND expires > :now "
        "AND (:address = '' OR address = :address)",
        {{"kind", kind}, {"now", now}, {"address", address}});
  });
}

}  // namespace keyagent::store
