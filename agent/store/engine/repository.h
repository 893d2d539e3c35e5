// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the classes by noun have in common: the database, and no state of their own.

namespace keyagent::store {

class Database;

// Thread-safe, because Database is. Lives as long as its Store. What its methods throw: see Store.
class Repository {
 public:
  explicit Repository(Database& database) : db_(database) {}
  Repository(const Repository&) = delete;
  Repository& operator=(const Repository&) = delete;

 protected:
  ~Repository() = default;

  Database& db_;
};

}  // namespace keyagent::store
