// SPDX-License-Identifier: Apache-2.0
#pragma once
// A fresh database for each test, on SQLite and on PostgreSQL: the suites that are run on both.

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "agent/store/store.h"
#include "tests/support/postgres.h"
#include "tests/support/temp_folder.h"

namespace keyagent::store {

class BothTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    choose();
    if (!IsSkipped()) store_ = open();
  }

  // An empty database, no store in it yet.
  void choose() {
    if (!on_postgres()) {
      url_ = "sqlite://" + file().string();
    } else if (const auto missing = test::Postgres::missing(); !missing.empty()) {
      GTEST_SKIP() << missing << " is not installed";
    } else {
      url_ = test::Postgres::shared().new_database();
    }
  }

  bool on_postgres() const { return std::string(GetParam()) == "postgresql"; }
  std::filesystem::path file() const { return folder_.path() / "instance.db"; }
  std::unique_ptr<Store> open(std::size_t connections = 4) const {
    return std::make_unique<Store>(Options{url_, connections});
  }
  Store& store() { return *store_; }

  test::TempFolder folder_;
  std::string url_;
  std::unique_ptr<Store> store_;
};

inline std::string engine_name(const ::testing::TestParamInfo<const char*>& info) {
  return info.param;
}

}  // namespace keyagent::store

// In the suite's file, once.
#define KEYAGENT_ON_BOTH(Suite) \
  INSTANTIATE_TEST_SUITE_P(On, Suite, ::testing::Values("sqlite", "postgresql"), engine_name)
