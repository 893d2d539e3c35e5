#include "agent/store/store_impl.h"

namespace keyagent::store {

void Store::add_enrolment_token(const EnrolmentToken& token) {
  impl_->db.write([&](Sql& sql) {
    sql.run(
        "INSERT INTO enrolment_tokens (hash, agent_id, group_names, created_by, expires, used_by) "
        "VALUES (:hash, :agent, :groups, :created_by, :expires, :used_by)",
        {{"hash", token.hash},
         {"agent", token.agent_id},
         {"groups", token.groups},
         {"created_by", token.created_by},
         {"expires", token.expires},
         {"used_by", token.used_by}});
  });
}

// One statement decides: of those who race for a token, one finds it unused.
std::optional<EnrolmentToken> Store::use_enrolment_token(const Bytes& hash,
                                                         const std::string& agent_id,
                                                         WallTime now) {
  if (agent_id.empty()) return std::nullopt;  // would leave it unused
  return impl_->db.write([&](Sql& sql) -> std::optional<EnrolmentToken> {
    if (sql.run("UPDATE enrolment_tokens SET used_by = :agent WHERE hash = :hash AND used_by = '' "
                "AND expires > :now AND (agent_id = '' OR agent_id = :agent)",
                {{"agent", agent_id}, {"hash", hash}, {"now", now}}) != 1)
      return std::nullopt;
    return sql.first(
        "SELECT hash, agent_id, group_names, created_by, expires, used_by FROM enrolment_tokens "
        "WHERE hash = :hash",
        {{"hash", hash}}, [](const Row& row) {
          return EnrolmentToken{.hash = row.bytes(0),
                                .agent_id = row.text(1),
                                .groups = row.list(2),
                                .created_by = row.text(3),
                                .expires = row.time(4),
                                .used_by = row.text(5)};
        });
  });
}

}  // namespace keyagent::store
