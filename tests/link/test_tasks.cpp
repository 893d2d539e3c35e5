// SPDX-License-Identifier: Apache-2.0
#include "tests/link/test_tasks.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "tests/link/test_papers.h"

namespace keyagent::test {
namespace {

using tls::HttpResponse;

[[noreturn]] void gone() {
  throw Error(Code::kKeyState, "the lease of this task has expired");
}

}  // namespace

std::string TestTasks::submit(const Submission& wish) {
  const std::string id = to_hex(random_bytes(16));
  const std::lock_guard lock(mutex_);
  tasks_[id].wish = wish;
  order_.push_back(id);
  return id;
}

void TestTasks::cancel(const std::string& id) {
  const std::lock_guard lock(mutex_);
  tasks_.at(id).cancelling = true;
}

void TestTasks::retry(const std::string& id) {
  const std::lock_guard lock(mutex_);
  tasks_.at(id).state = "queued";
}

void TestTasks::expire(const std::string& id) {
  const std::lock_guard lock(mutex_);
  run_out(tasks_.at(id));
}

void TestTasks::run_out(Task& task) {
  const bool again =
      task.state == "leased" || (task.wish.repeatable && task.attempt < task.wish.attempts);
  if (task.state == "leased") --task.attempt;
  task.state = task.cancelling ? "cancelled" : again ? "queued" : "unknown";
}

void TestTasks::look() {
  for (auto& [id, task] : tasks_) {
    const bool leased = task.state == "leased" || task.state == "started";
    if (leased && now() >= task.until) run_out(task);
  }
}

std::optional<HttpResponse> TestTasks::serve(const tls::HttpRequest& request) {
  const std::string prefix = "/v1/tasks/";
  if (request.path.rfind(prefix, 0) != 0) return std::nullopt;
  const std::lock_guard lock(mutex_);
  look();
  const std::string rest = request.path.substr(prefix.size());
  const auto slash = rest.find('/');
  const std::string verb = slash == rest.npos ? rest : rest.substr(slash + 1);
  if (deaf || (no_ends && verb == "end")) throw Error(Code::kBusy, "not now");
  if (verb == "take") return take(request.body);
  return speak(rest.substr(0, slash), verb, request.body);
}

HttpResponse TestTasks::take(const std::string& body) {
  ++asked_;
  const auto handlers = Json::parse(body).at("handlers").get<std::vector<std::string>>();
  // First what was taken and not started: the answer was lost.
  auto order = order_;
  std::stable_partition(order.begin(), order.end(),
                        [&](const auto& id) { return tasks_.at(id).state == "leased"; });
  for (const auto& id : order) {
    Task& task = tasks_.at(id);
    const bool wanted =
        std::find(handlers.begin(), handlers.end(), task.wish.handler) != handlers.end();
    if ((task.state != "queued" && task.state != "leased") || !wanted) continue;
    if (task.state == "queued") ++task.attempt;
    task.state = "leased";
    task.lease = to_base64url(random_bytes(32));
    task.until = now() + std::chrono::milliseconds(static_cast<long>(lease_s * 1000));
    return json({{"task",
                  {{"id", id},
                   {"handler", task.wish.handler},
                   {"input", Json::parse(task.wish.input)},
                   {"credential", task.wish.credential},
                   {"repeatable", task.wish.repeatable},
                   {"attempt", task.attempt},
                   {"seconds", task.wish.seconds}}},
                 {"lease", task.lease},
                 {"lease_s", lease_s.load()}});
  }
  return json({{"task", nullptr}});
}

HttpResponse TestTasks::speak(const std::string& id, const std::string& verb,
                              const std::string& text) {
  const Json body = Json::parse(text);
  const auto found = tasks_.find(id);
  if (found == tasks_.end() || found->second.lease != body.at("lease").get<std::string>()) gone();
  Task& task = found->second;
  const bool open = task.state == "leased" || task.state == "started";
  if (verb == "end") {
    const std::string outcome = body.at("outcome");
    if (task.outcome == outcome && !open) return json({{"state", task.state}});
    if (!open && task.state != "unknown" && task.state != "queued") gone();
    task.outcome = outcome;
    task.text = body.at("text");
    task.result = body.at("result");
    const bool again = outcome == "retry" || (outcome == "failed" && task.wish.repeatable);
    task.state = outcome == "done"                            ? "done"
                 : again && task.attempt < task.wish.attempts ? "queued"
                                                              : "failed";
    ended_.push_back(id);
    return json({{"state", task.state}});
  }
  if (!open || (verb == "keep" && task.cancelling)) gone();
  if (verb == "start" && task.state == "leased") {
    task.state = "started";
    task.outcome.clear();
    ++task.starts;
  }
  if (verb == "keep") ++task.keeps;
  task.until = now() + std::chrono::milliseconds(static_cast<long>(lease_s * 1000));
  if (verb == "start" && lose_start) throw Error(Code::kBusy, "the answer is lost");
  return json({{"lease_s", lease_s.load()}});
}

std::string TestTasks::state(const std::string& id) {
  const std::lock_guard lock(mutex_);
  look();
  return tasks_.at(id).state;
}

std::string TestTasks::text(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  return tasks_.at(id).text;
}

std::string TestTasks::result(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  return tasks_.at(id).result;
}

int TestTasks::starts(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  return tasks_.at(id).starts;
}

std::vector<std::string> TestTasks::ended() const {
  const std::lock_guard lock(mutex_);
  return ended_;
}

int TestTasks::keeps(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  return tasks_.at(id).keeps;
}

void TestTasks::pass(std::chrono::milliseconds time) {
  const std::lock_guard lock(mutex_);
  passed_ += time;
}

int TestTasks::asked() const {
  const std::lock_guard lock(mutex_);
  return asked_;
}

}  // namespace keyagent::test
