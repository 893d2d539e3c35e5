// SPDX-License-Identifier: Apache-2.0
#include "agent/store/engine/change_notifications.h"

#include <libpq-fe.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "agent/base/log.h"

namespace keyagent::store {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr auto kAgain = 1s;          // between attempts to connect
constexpr std::size_t kMost = 1000;  // different notices at once; beyond it: look everywhere
const std::set<std::string> kAllTopics{{}};  // one empty text

}  // namespace

// The connection that listens, or none. Of one thread.
class ChangeNotifications::Connection {
 public:
  explicit Connection(const Place& place) : place_(place) {}

  bool is_open() const { return open_ != nullptr; }
  int socket() const { return open_ ? PQsocket(open_.get()) : -1; }
  SteadyTime next_try() const { return next_try_; }

  // True when it was opened just now: earlier notifications were not received.
  bool open() {
    if (place_.engine != Engine::kPostgres || open_ || steady_clock::now() < next_try_)
      return false;
    next_try_ = steady_clock::now() + kAgain;
    open_.reset(PQconnectdb(place_.connect.c_str()));
    if (PQstatus(open_.get()) == CONNECTION_OK) {
      PQsetNoticeProcessor(
          open_.get(), [](void*, const char*) {}, nullptr);
      const std::unique_ptr<PGresult, decltype(&PQclear)> result(
          PQexec(open_.get(), (std::string("LISTEN ") + kChannel).c_str()), PQclear);
      if (PQresultStatus(result.get()) == PGRES_COMMAND_OK) {
        log_info("store", "listens to the other replicas");
        return true;
      }
    }
    open_.reset();
    return false;
  }

  // What came; the connection is closed when it was lost.
  void read(std::set<std::string>& found) {
    if (!open_) return;
    const bool lost = PQconsumeInput(open_.get()) == 0 || PQstatus(open_.get()) != CONNECTION_OK;
    for (;;) {
      const std::unique_ptr<PGnotify, decltype(&PQfreemem)> notice(PQnotifies(open_.get()),
                                                                   PQfreemem);
      if (!notice) break;
      if (found.size() < kMost)
        found.insert(notice->extra);
      else
        found.insert(std::string());
    }
    if (!lost) return;
    open_.reset();
    log_warning("store",
                "notifications of the other replicas are not received: the connection is lost");
  }

 private:
  const Place& place_;
  std::unique_ptr<PGconn, decltype(&PQfinish)> open_{nullptr, PQfinish};
  SteadyTime next_try_{};
};

ChangeNotifications::ChangeNotifications(const Place& place)
    : place_(place), event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!event_.valid()) throw Error(Code::kInternal, "eventfd failed");
}

ChangeNotifications::~ChangeNotifications() {
  stop();
}

void ChangeNotifications::listen(NotificationHandler look, std::chrono::milliseconds poll) {
  look_ = std::move(look);
  poll_ = poll;
  thread_ = std::thread([this] { run(); });
}

void ChangeNotifications::stop() {
  {
    const MutexLock lock(mutex_);
    ended_ = true;
  }
  wake({});
  if (thread_.joinable()) thread_.join();
}

void ChangeNotifications::wake(const std::string& what) {
  const MutexLock lock(mutex_);
  waiting_.insert(waiting_.size() < kMost ? what : std::string());
  ::eventfd_write(event_.get(), 1);
}

bool ChangeNotifications::ended() {
  const MutexLock lock(mutex_);
  return ended_;
}

std::set<std::string> ChangeNotifications::take() {
  const MutexLock lock(mutex_);
  eventfd_t count = 0;
  ::eventfd_read(event_.get(), &count);
  return std::exchange(waiting_, {});
}

void ChangeNotifications::wait(Connection& connection, SteadyTime until) const {
  pollfd watched[] = {{event_.get(), POLLIN, 0}, {connection.socket(), POLLIN, 0}};
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(until - steady_clock::now()).count();
  static_cast<void>(::poll(watched, 2, static_cast<int>(std::clamp<long long>(left, 0, 60'000))));
}

void ChangeNotifications::run() {
  Connection connection(place_);
  auto next = steady_clock::now();  // check everything
  while (!ended()) {
    if (connection.open()) next = steady_clock::now();
    const bool deaf = place_.engine == Engine::kPostgres && !connection.is_open();
    wait(connection, deaf ? std::min(next, connection.next_try()) : next);
    auto found = take();
    connection.read(found);
    if (steady_clock::now() >= next || found.contains(std::string())) {
      found = kAllTopics;
      next = steady_clock::now() + poll_;
    }
    for (const auto& what : found) {
      if (ended()) return;
      try {
        look_(what);
      } catch (const std::exception& error) {
        log_warning("store", std::string("processing a notification failed: ") + error.what());
      }
    }
  }
}

}  // namespace keyagent::store
