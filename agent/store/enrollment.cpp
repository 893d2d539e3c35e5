// SPDX-License-Identifier: Apache-2.0
#include "agent/store/store_impl.h"

namespace keyagent::store {

void Store::add_enrolment_token(const EnrollmentToken& token) {
  impl_->db.write([&](Sql& sql) {
    sql.run(
        "INSERT INTO enrolment_tokens (hash, agent_id, group_names, created_by, expires, used_by, "
        "inherit) VALUES (:hash, :agent, :groups, :created_by, :expires, :used_by, :inherit)",
        {{"hash", token.hash},
         {"agent", token.agent_id},
         {"groups", token.groups},
         {"created_by", token.created_by},
         {"expires", token.expires},
         {"used_by", token.used_by},
         {"inherit", token.inherit}});
  });
}

}  // namespace keyagent::store
