// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/ssh_confirmation.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <utility>

#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/daemon/program.h"

namespace keyagent::daemon {
namespace {

// No one answers more at once.
constexpr std::size_t kMaxOfAll = 64, kMaxOfOne = 4;

std::vector<std::string> environment_of(const sshagent::Question& question) {
  return {"KEYAGENT_KEY=" + question.key,
          "KEYAGENT_FINGERPRINT=" + question.fingerprint,
          "KEYAGENT_UID=" + std::to_string(question.principal.uid),
          "KEYAGENT_PID=" + std::to_string(question.principal.pid),
          "KEYAGENT_DESTINATION=" + question.destination,
          std::string("KEYAGENT_FORWARDED=") + (question.forwarded ? "yes" : "no")};
}

}  // namespace

SshConfirmation::SshConfirmation(config::SshConfirm config, Record record)
    : config_(std::move(config)),
      record_(std::move(record)),
      stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!stop_.valid())
    throw Error(Code::kInternal, "cannot create an eventfd for ssh confirmations");
}

bool SshConfirmation::wanted(const std::string& key) const {
  return std::any_of(config_.keys.begin(), config_.keys.end(),
                     [&](const auto& each) { return policy::matches_name(each, key); });
}

void SshConfirmation::ask(sshagent::Question question, Then then) {
  MutexLock lock(mutex_);
  for (auto& thread : std::exchange(done_, {})) thread.join();
  const std::uint32_t uid = question.principal.uid;
  std::string why = why_refused(uid);
  if (why.empty()) {
    const std::uint64_t id = next_++;
    try {
      threads_[id] = std::thread([this, id, uid, question, then] {
        give(question, run(question), then);
        ended(id, uid);
      });
      ++asked_[uid];
      return;
    } catch (const std::system_error& error) {
      threads_.erase(id);
      why = error.what();
    }
  }
  lock.unlock();
  give(question, {false, why}, then);
}

std::string SshConfirmation::why_refused(std::uint32_t uid) const {
  if (config_.program.empty()) return "ssh.confirm names no program";
  if (stopping_) return "the agent is stopping";
  const auto found = asked_.find(uid);
  if (threads_.size() >= kMaxOfAll || (found != asked_.end() && found->second >= kMaxOfOne))
    return "too many confirmations are pending";
  return {};
}

SshConfirmation::Answer SshConfirmation::run(const sshagent::Question& question) const {
  Program program{"the program of ssh.confirm", config_.program};
  program.environment = environment_of(question);
  program.patience = config_.timeout;
  program.stop = stop_.get();
  try {
    const ProgramEnd end = run_program(program);
    if (end.killed) return {false, "confirmation timed out"};
    return {end.code == 0, end.said};
  } catch (const std::exception& error) {
    log_error("ssh", error.what());
    return {false, error.what()};
  }
}

void SshConfirmation::give(const sshagent::Question& question, Answer answer,
                           const Then& then) const {
  audit::Event event;
  event.what = "ssh.confirm";
  event.who = question.principal.text();
  event.pid = question.principal.pid;
  event.key = question.key;
  event.kid = question.kid;
  event.outcome = answer.yes ? "ok" : std::string(code_name(Code::kDenied));
  event.detail = question.destination.empty() ? "" : "destination " + question.destination;
  for (const std::string& more : {std::string(question.forwarded ? "forwarded" : ""), answer.why})
    if (!more.empty()) event.detail += (event.detail.empty() ? "" : "; ") + more;
  try {
    record_(question.principal, std::move(event));
  } catch (const std::exception& error) {
    log_error("audit", error.what());
    answer.yes = false;
  }
  then(answer.yes);
}

void SshConfirmation::ended(std::uint64_t id, std::uint32_t uid) {
  const MutexLock guard(mutex_);
  if (--asked_[uid] == 0) asked_.erase(uid);
  const auto found = threads_.find(id);
  if (found == threads_.end()) return;  // stop() waits for it
  done_.push_back(std::move(found->second));
  threads_.erase(found);
}

void SshConfirmation::stop() {
  std::vector<std::thread> waited;
  {
    const MutexLock guard(mutex_);
    stopping_ = true;
    for (auto& [id, thread] : std::exchange(threads_, {})) waited.push_back(std::move(thread));
    for (auto& thread : std::exchange(done_, {})) waited.push_back(std::move(thread));
  }
  ::eventfd_write(stop_.get(), 1);
  for (auto& thread : waited) thread.join();
}

}  // namespace keyagent::daemon
