// SPDX-License-Identifier: Apache-2.0
#include "agent/store/engine/database.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "agent/base/error.h"

namespace keyagent::store {
namespace {

constexpr int kLeaseMilliseconds = 30'000;
constexpr int kMaxRuns = 5;
constexpr std::chrono::seconds kTurn{10};  // as SQLite waits for other processes

// What this thread is inside of.
struct OpenTransaction {
  const Database* database = nullptr;
  Sql* sql = nullptr;
};
thread_local OpenTransaction open_here;

// A transaction that is undone unless it was committed.
class Transaction {
 public:
  // REQUIRES that one was begun.
  explicit Transaction(soci::session& session) : session_(session) {}
  Transaction(const Transaction&) = delete;
  ~Transaction() {
    if (done_) return;
    try {
      session_.rollback();
    } catch (const soci::soci_error&) {
      session_.close();  // the server undoes it then
    }
  }
  void commit() {
    session_.commit();
    done_ = true;
  }

 private:
  soci::session& session_;
  bool done_ = false;
};

}  // namespace

// One connection of the pool, as long as this lives.
class Database::Lease {
 public:
  explicit Lease(soci::connection_pool& pool) : pool_(pool) {
    if (!pool_.try_lease(position_, kLeaseMilliseconds))
      throw Error(Code::kBusy, "the store's connections are all in use");
  }
  Lease(const Lease&) = delete;
  ~Lease() { pool_.give_back(position_); }
  soci::session& session() { return pool_.at(position_); }

 private:
  soci::connection_pool& pool_;
  std::size_t position_ = 0;
};

Database::Database(const Options& options)
    : place_(options.url), pool_(std::max<std::size_t>(options.connections, 1)) {
  prepare_file(place_);
}

Sql* Database::open_transaction() const {
  return open_here.database == this ? open_here.sql : nullptr;
}

void Database::together(const std::function<void()>& work) {
  run(
      [&](Sql& sql) {
        const auto before = open_here;
        open_here = {this, &sql};
        try {
          work();
        } catch (...) {
          open_here = before;
          throw;
        }
        open_here = before;
      },
      Kind::kWrite);
}

void Database::run(const std::function<void(Sql&)>& work, Kind kind) {
  if (Sql* const outer = open_transaction()) return work(*outer);
  // Before a connection is taken: those that read need some.
  std::unique_lock turn(writing_, std::defer_lock);
  if (kind == Kind::kWrite && place_.engine == Engine::kSqlite && !turn.try_lock_for(kTurn))
    throw Error(Code::kBusy, "the store " + place_.path + " is locked by a writer for too long");
  Lease lease(pool_);
  auto& session = lease.session();
  for (int run = 1;; ++run) {
    bool committing = false;
    std::optional<Fault> fault;
    try {
      if (session.get_backend() == nullptr) open(session, place_);
      Sql sql(session, place_.engine);
      if (kind == Kind::kRead) return work(sql);
      kind == Kind::kWrite ? begin(session, place_) : begin_snapshot(session, place_);
      Transaction transaction(session);
      work(sql);
      committing = true;
      return transaction.commit();
    } catch (const soci::soci_error& error) {
      fault = fault_of(error, session, place_);
    }
    if (fault->lost) session.close();
    if (committing && fault->lost) {
      fault->text += "; it is unknown whether the change was made";
      throw Error(fault->code, fault->text);
    }
    // Two that run into each other may do so again.
    const int most = fault->lost ? 2 : fault->again ? kMaxRuns : 1;
    if (run >= most) throw Error(fault->code, fault->text);
  }
}

}  // namespace keyagent::store
