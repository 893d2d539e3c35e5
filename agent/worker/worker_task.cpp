// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/worker_task.h"

#include <algorithm>
#include <thread>

#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/base/mutex.h"
#include "agent/wire/messages.h"

namespace keyagent::worker {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kAgain = 1s;  // after a failure that may pass
constexpr std::chrono::seconds kCredential{30};   // as long a credential is tried for
constexpr std::chrono::seconds kLastWord{5};      // for an outcome, once the worker is to end

// The agent's decision is final: a retry returns the same.
bool is_final(Code code) {
  return code == Code::kKeyState || code == Code::kDenied || code == Code::kUsage;
}

// Keeps the lease of one task while it lives, in its own thread: the agent may be slow, and
// the handler is to end in time all the same.
class LeaseRenewer {
 public:
  LeaseRenewer(client::Client& agent, const TakenTask& taken, LeaseGuard& leash)
      : agent_(agent), leash_(leash), who_(taken.task.handler() + " " + taken.task.id()) {
    request_.mutable_task_keep()->set_handler(taken.task.handler());
    request_.mutable_task_keep()->set_id(taken.task.id());
    thread_ = std::thread([this] { run(); });
  }
  ~LeaseRenewer() {
    {
      const MutexLock lock(mutex_);
      over_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }

 private:
  // False: it is over.
  bool pause(BootTime time) {
    const MutexLock lock(mutex_);
    return !changed_.wait_for(mutex_, time, [this]() REQUIRES(mutex_) { return over_; });
  }
  void run() {
    const auto third = [this] {
      return std::max<BootTime>((leash_.until() - boot_now()) / 3, 20ms);
    };
    auto wait = third();
    while (pause(wait)) {
      const auto sent = boot_now();
      try {
        const auto left = agent_.call(request_).task_keep().lease_ms();
        leash_.extend(sent + std::chrono::milliseconds(left));
        wait = third();
      } catch (const Error& error) {
        log_warning("worker", who_ + " could not be renewed: " + error.what());
        if (is_final(error.code())) return leash_.cut();
        wait = std::min<BootTime>(kAgain, third());
      }
    }
  }

  client::Client& agent_;
  LeaseGuard& leash_;
  const std::string who_;
  wire::Request request_;
  Mutex mutex_;
  CondVar changed_;
  bool over_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// Throws what the agent refuses with, at last.
SecretBytes fetch_credential(client::Client& agent, const TakenTask& taken, const LeaseGuard& leash,
                             const Flag& killed) {
  wire::Request request;
  auto& wanted = *request.mutable_task_credential();
  wanted.set_handler(taken.task.handler());
  wanted.set_id(taken.task.id());
  wanted.set_grant(taken.grant.data(), taken.grant.size());
  for (const auto end = boot_now() + kCredential;;) {
    try {
      auto response = agent.call(request);
      const auto& value = response.task_credential().value();
      SecretBytes secret(value.begin(), value.end());
      wire::wipe(response);
      return secret;
    } catch (const Error& error) {
      const bool over = boot_now() > end || leash.is_cut().raised() || killed.raised();
      if (over || !retryable(error.code())) throw;
    }
    killed.wait(kAgain / 5);
  }
}

HandlerEnd run(client::Client& agent, const HandlerConfig& handler, const TakenTask& taken,
               const LeaseGuard& leash, const Flag& killed) {
  const wire::Task& task = taken.task;
  HandlerWork work{task.id(), task.input(), task.attempt(), handler.seconds, std::nullopt};
  if (task.seconds() > 0) work.limit = std::chrono::seconds(task.seconds());
  if (!task.credential().empty()) {
    const auto& listed = handler.credentials;
    if (std::find(listed.begin(), listed.end(), task.credential()) == listed.end())
      return {"failed",
              "not started: worker.yml does not list the credential " + task.credential() +
                  " for handler " + handler.name,
              {}};
    try {
      work.credential = fetch_credential(agent, taken, leash, killed);
    } catch (const Error& error) {
      return {retryable(error.code()) ? "retry" : "failed",
              "not started: no credential " + task.credential() + ": " +
                  std::string(code_name(error.code())),
              {}};
    }
  }
  // Do not start a task that another agent may start too.
  if (leash.is_cut().raised() || killed.raised() || boot_now() >= leash.until())
    return {"retry", "not started: its lease expired", {}};
  try {
    return run_handler(handler, work, leash, killed);
  } catch (const Error& error) {
    return {"retry", std::string("not started: ") + error.what(), {}};
  }
}

void tell_end(client::Client& agent, const wire::Task& task, const HandlerEnd& end,
              const Flag& killed) {
  const std::string who = task.handler() + " " + task.id();
  wire::Request request;
  auto& said = *request.mutable_task_end();
  said.set_handler(task.handler());
  said.set_id(task.id());
  said.set_outcome(end.outcome);
  said.set_text(end.text);
  said.set_result(end.result);
  std::optional<BootTime> last;
  for (bool told = false;;) {
    try {
      agent.call(request);
      return;
    } catch (const Error& error) {
      if (!told || is_final(error.code()))
        log_error("worker", who + ": its outcome, " + end.outcome +
                                ", is not accepted by the agent: " + error.what());
      told = true;
      if (is_final(error.code())) return;
    }
    if (killed.raised() && !last) last = boot_now() + kLastWord;
    if (last && boot_now() > *last) return;
    if (killed.raised()) {
      std::this_thread::sleep_for(kAgain / 5);
    } else {
      killed.wait(kAgain);
    }
  }
}

}  // namespace

void do_task(client::Client& agent, const HandlerConfig& handler, const TakenTask& taken,
             const Flag& killed) {
  const std::string who = taken.task.handler() + " " + taken.task.id();
  try {
    LeaseGuard leash(taken.until);
    const LeaseRenewer keeper(agent, taken, leash);
    log_info("worker", who + ": attempt " + std::to_string(taken.task.attempt()));
    const auto end = run(agent, handler, taken, leash, killed);
    log_info("worker", who + ": " + end.outcome + ", " + end.text);
    tell_end(agent, taken.task, end, killed);
  } catch (const std::exception& error) {
    log_error("worker", who + ": " + error.what());
  }
}

}  // namespace keyagent::worker
