// SPDX-License-Identifier: Apache-2.0
#include "agent/link/gate_client.h"

#include <optional>
#include <system_error>
#include <thread>

#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/base/mutex.h"
#include "agent/wire/messages.h"

namespace keyagent::link {
namespace {

class Waiting final : public gate::Reply {
 public:
  ~Waiting() override {
    if (response_) wire::wipe(*response_);
  }
  bool answer(const wire::Response& response) override { return take(response, SteadyTime::min()); }
  // Failures are answered at the gate's fixed intervals here, too.
  void answer_at(SteadyTime when, const wire::Response& response) override { take(response, when); }
  std::optional<wire::Response> wait(std::chrono::milliseconds patience) {
    MutexLock lock(mutex_);
    if (!changed_.wait_for(mutex_, patience,
                           [this]() REQUIRES(mutex_) { return response_.has_value(); }))
      return std::nullopt;
    const SteadyTime when = when_;
    lock.unlock();
    std::this_thread::sleep_until(when);
    lock.lock();
    return std::exchange(response_, wire::Response{});
  }

 private:
  bool take(const wire::Response& response, SteadyTime when) {
    const MutexLock lock(mutex_);
    if (response_) return false;
    response_ = response;
    when_ = when;
    changed_.notify_all();
    return true;
  }
  Mutex mutex_;
  CondVar changed_;
  std::optional<wire::Response> response_ GUARDED_BY(mutex_);
  SteadyTime when_ GUARDED_BY(mutex_){};
};

}  // namespace

struct GateClient::Impl {
  const Ask ask;
  Mutex mutex;
  CondVar changed;
  int running GUARDED_BY(mutex) = 0;
  bool stopped GUARDED_BY(mutex) = false;

  explicit Impl(Ask ask_in) : ask(std::move(ask_in)) {}

  void enter() {
    const MutexLock lock(mutex);
    if (stopped) throw Error(Code::kBusy, "the agent is stopping");
    ++running;
  }
  void leave() {
    const MutexLock lock(mutex);
    --running;
    changed.notify_all();
  }
};

GateClient::GateClient(Ask ask) : impl_(std::make_shared<Impl>(std::move(ask))) {}

GateClient::~GateClient() {
  stop();
}

void GateClient::stop(std::chrono::milliseconds patience) {
  const MutexLock lock(impl_->mutex);
  impl_->stopped = true;
  impl_->changed.wait_for(impl_->mutex, patience,
                          [this]() REQUIRES(impl_->mutex) { return impl_->running == 0; });
}

wire::Response GateClient::call(wire::Request request, const std::string& component,
                                std::chrono::milliseconds patience, const std::string& subject) {
  policy::Principal principal;
  principal.voucher = policy::Principal::Voucher::kInternal;
  principal.name = component;
  principal.subject = subject;
  request.set_deadline_ms(static_cast<std::uint32_t>(patience.count()));
  auto waiting = std::make_shared<Waiting>();
  impl_->enter();
  try {
    std::thread([impl = impl_, principal, waiting, request = std::move(request)]() mutable {
      try {
        impl->ask(principal, std::move(request), waiting);
      } catch (const std::exception& error) {
        log_error("link", error.what());
      }
      waiting.reset();
      impl->leave();
    }).detach();
  } catch (const std::system_error& error) {
    impl_->leave();
    throw Error(Code::kBusy, std::string("no thread for a request: ") + error.what());
  }
  auto response = waiting->wait(patience + std::chrono::seconds(1));
  if (!response) throw Error(Code::kDeadline, "the agent's own token timed out");
  if (response->has_failure())
    throw Error(wire::code_of(response->failure().code()), response->failure().text(),
                response->failure().kid());
  return std::move(*response);
}

}  // namespace keyagent::link
