// SPDX-License-Identifier: Apache-2.0
#include "agent/store/engine/table.h"
#include "agent/store/store_impl.h"

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

void Store::add_challenge(const Challenge& challenge, WallTime now) {
  impl_->db.write([&](Sql& sql) {
    sql.run("DELETE FROM challenges WHERE expires <= :now", {{"now", now}});
    sql.run(kChallenges.insert(), kChallenges.all(challenge));
  });
}

std::optional<Challenge> Store::challenge(const std::string& id, WallTime now) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(kChallenges.select() + "WHERE id = :id AND expires > :now",
                     {{"id", id}, {"now", now}}, kChallenges);
  });
}

std::vector<Challenge> Store::challenges(const std::string& kind, WallTime now) {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(kChallenges.select() + "WHERE kind = :kind AND expires > :now ORDER BY id",
                   {{"kind", kind}, {"now", now}}, kChallenges);
  });
}

bool move_challenge_in(Sql& sql, const Challenge& challenge, const std::string& from) {
  auto bounds = kChallenges.changes(challenge, {"id"});
  bounds.push_back({"from_state", from});
  return sql.run(kChallenges.update() + " WHERE id = :id AND state = :from_state", bounds) == 1;
}

bool Store::move_challenge(const Challenge& challenge, const std::string& from) {
  return impl_->db.write([&](Sql& sql) { return move_challenge_in(sql, challenge, from); });
}

std::int64_t Store::count_challenges(const std::string& kind, const std::string& address,
                                     WallTime now) {
  return impl_->db.read([&](Sql& sql) {
    return sql.count(
        "SELECT count(*) FROM challenges WHERE kind = :kind AND expires > :now "
        "AND (:address = '' OR address = :address)",
        {{"kind", kind}, {"now", now}, {"address", address}});
  });
}

}  // namespace keyagent::store
