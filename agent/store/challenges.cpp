// SPDX-License-Identifier: Apache-2.0
#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

constexpr const char* kSelectChallenges =
    "SELECT id, kind, agent, state, data, expires, address FROM challenges ";

Challenge challenge_of(const Row& row) {
  return {.id = row.text(0),
          .kind = row.text(1),
          .agent = row.text(2),
          .state = row.text(3),
          .data = row.text(4),
          .expires = row.time(5),
          .address = row.text(6)};
}

}  // namespace

void Store::add_challenge(const Challenge& challenge, WallTime now) {
  impl_->db.write([&](Sql& sql) {
    sql.run("DELETE FROM challenges WHERE expires <= :now", {{"now", now}});
    sql.run(
        "INSERT INTO challenges (id, kind, agent, state, data, expires, address) "
        "VALUES (:id, :kind, :agent, :state, :data, :expires, :address)",
        {{"id", challenge.id},
         {"kind", challenge.kind},
         {"agent", challenge.agent},
         {"state", challenge.state},
         {"data", challenge.data},
         {"expires", challenge.expires},
         {"address", challenge.address}});
  });
}

std::optional<Challenge> Store::challenge(const std::string& id, WallTime now) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(std::string(kSelectChallenges) + "WHERE id = :id AND expires > :now",
                     {{"id", id}, {"now", now}}, challenge_of);
  });
}

std::vector<Challenge> Store::challenges(const std::string& kind, WallTime now) {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(
        std::string(kSelectChallenges) + "WHERE kind = :kind AND expires > :now ORDER BY id",
        {{"kind", kind}, {"now", now}}, challenge_of);
  });
}

bool move_challenge_in(Sql& sql, const Challenge& challenge, const std::string& from) {
  return sql.run(
             "UPDATE challenges SET state = :state, data = :data, expires = :expires "
             "WHERE id = :id AND state = :from_state",
             {{"state", challenge.state},
              {"data", challenge.data},
              {"expires", challenge.expires},
              {"id", challenge.id},
              {"from_state", from}}) == 1;
}

bool Store::move_challenge(const Challenge& challenge, const std::string& from) {
  return impl_->db.write([&](Sql& sql) { return move_challenge_in(sql, challenge, from); });
}

std::int64_t Store::count_challenges(const std::string& kind, const std::string& address,
                                     WallTime now) {
  return impl_->db.read([&](Sql& sql) {
    return sql
        .first(
            "SELECT count(*) FROM challenges WHERE kind = :kind AND expires > :now "
            "AND (:address = '' OR address = :address)",
            {{"kind", kind}, {"now", now}, {"address", address}},
            [](const Row& row) { return row.number(0); })
        .value_or(0);
  });
}

}  // namespace keyagent::store
