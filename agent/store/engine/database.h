// SPDX-License-Identifier: Apache-2.0
#pragma once
// The pool of connections, and transactions that survive the loss of one.

#include <soci/soci.h>

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>

#include "agent/store/engine/dialect.h"
#include "agent/store/engine/options.h"
#include "agent/store/engine/sql.h"

namespace keyagent::store {

// Thread-safe. Connections are opened when they are first needed, and again after they were lost.
// Work is a callable on Sql&; it may be run again, so it changes nothing but the database and its
// result.
class Database {
 public:
  explicit Database(const Options& options);

  // Outside of a transaction, for one query.
  template <class Work>
  auto read(const Work& work) {
    return result_of(work, Kind::kRead);
  }
  // All queries see one consistent snapshot.
  template <class Work>
  auto snapshot(const Work& work) {
    return result_of(work, Kind::kSnapshot);
  }
  // All or nothing. Retried once when the connection is lost before the commit, four times after a
  // deadlock. A connection lost during the commit is Error{kPeer} with a text that the outcome is
  // unknown.
  template <class Work>
  auto write(const Work& work) {
    return result_of(work, Kind::kWrite);
  }

  // Runs all statements of this thread on this database inside `work` in one transaction; rolls
  // back when `work` throws. `work` may be retried.
  void together(const std::function<void()>& work);

  const Place& place() const { return place_; }

 private:
  enum class Kind { kRead, kSnapshot, kWrite };
  class Lease;

  template <class Work>
  auto result_of(const Work& work, Kind kind) {
    using Result = std::invoke_result_t<const Work&, Sql&>;
    if constexpr (std::is_void_v<Result>) {
      run(work, kind);
    } else {
      std::optional<Result> result;
      run([&](Sql& sql) { result.emplace(work(sql)); }, kind);
      return *std::move(result);
    }
  }
  void run(const std::function<void(Sql&)>& work, Kind kind);
  Sql* open_transaction() const;  // this thread's in together(), or nullptr

  Place place_;
  soci::connection_pool pool_;
  // SQLite has one writer, and who waits for it there sleeps, for up to 100 ms after it was free:
  // the writers of this process wait here.
  std::timed_mutex writing_;
};

}  // namespace keyagent::store
