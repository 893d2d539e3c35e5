// SPDX-License-Identifier: Apache-2.0
#include "agent/store/data_keys.h"

#include "agent/store/data_tables.h"
#include "agent/store/engine/database.h"

namespace keyagent::store {

bool DataKeys::add(const DataKey& key) {
  return db_.write([&](Sql& sql) {
    auto open = key;
    open.closed = false;
    return sql.run(kDataKeys.insert() + "ON CONFLICT (kid) DO NOTHING", kDataKeys.all(open)) == 1;
  });
}

std::vector<DataKey> DataKeys::list(const std::string& specification) {
  return db_.read([&](Sql& sql) {
    return sql.all(kDataKeys.select() + "WHERE specification = :specification ORDER BY noted, kid",
                   {{"specification", specification}}, kDataKeys);
  });
}

// Waits for the records that are on their way under the key: Records::put() holds its row.
bool DataKeys::close(const std::string& kid) {
  return db_.write([&](Sql& sql) {
    return sql.run("UPDATE data_keys SET closed = 1 WHERE kid = :kid AND closed = 0",
                   {{"kid", kid}}) == 1;
  });
}

}  // namespace keyagent::store
