#include "agent/store/store_impl.h"

namespace keyagent::store {

void Store::add_challenge(const Challenge& challenge, WallTime now) {
  impl_->db.write([&](Sql& sql) {
    sql.run("DELETE FROM challenges WHERE expires <= :now", {{"now", now}});
    sql.run(
        "INSERT INTO challenges (id, kind, agent, state, data, expires) "
        "VALUES (:id, :kind, :agent, :state, :data, :expires)",
        {{"id", challenge.id},
         {"kind", challenge.kind},
         {"agent", challenge.agent},
         {"state", challenge.state},
         {"data", challenge.data},
         {"expires", challenge.expires}});
  });
}

std::optional<Challenge> Store::challenge(const std::string& id, WallTime now) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(
        "SELECT id, kind, agent, state, data, expires FROM challenges "
        "WHERE id = :id AND expires > :now",
        {{"id", id}, {"now", now}}, [](const Row& row) {
          return Challenge{.id = row.text(0),
                           .kind = row.text(1),
                           .agent = row.text(2),
                           .state = row.text(3),
                           .data = row.text(4),
                           .expires = row.time(5)};
        });
  });
}

bool Store::move_challenge(const Challenge& challenge, const std::string& from) {
  return impl_->db.write([&](Sql& sql) {
    return sql.run(
               "UPDATE challenges SET state = :state, data = :data, expires = :expires "
               "WHERE id = :id AND state = :from_state",
               {{"state", challenge.state},
                {"data", challenge.data},
                {"expires", challenge.expires},
                {"id", challenge.id},
                {"from_state", from}}) == 1;
  });
}

}  // namespace keyagent::store
