// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/worker.h"

#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/base/log_limiter.h"
#include "agent/worker/worker_task.h"

namespace keyagent::worker {
namespace {

using namespace std::chrono_literals;

// Longer than an agent waits for its instance.
constexpr std::chrono::seconds kPatience{30};

client::Client::Options options_for(const std::filesystem::path& socket) {
  client::Client::Options options;
  options.socket = socket;
  options.deadline = kPatience;
  return options;
}

// A refusal by policy or state is not lifted in the next second.
std::chrono::milliseconds longest_pause(Code code) {
  const Layer layer = layer_of(code);
  const bool person = layer == Layer::kPolicy || layer == Layer::kKey || layer == Layer::kCaller ||
                      layer == Layer::kConfiguration;
  return person ? 30s : 5s;
}

}  // namespace

Worker::Worker(WorkerConfig config, const std::filesystem::path& socket)
    : agent_(options_for(socket)) {
  use(std::move(config));
}

Worker::~Worker() {
  kill();
  std::map<Name, Place> places;
  {
    const MutexLock lock(mutex_);
    places.swap(places_);
  }
  for (auto& [name, place] : places) place.thread.join();
}

void Worker::drain() {
  draining_.raise();
}

void Worker::kill() {
  draining_.raise();
  killed_.raise();
}

void Worker::use(WorkerConfig config) {
  const MutexLock lock(mutex_);
  config_ = std::make_shared<const WorkerConfig>(std::move(config));
  if (!draining_.raised()) open_places();
}

void Worker::open_places() {
  for (const auto& handler : config_->handlers) {
    for (unsigned i = 0; i < handler.parallel; ++i) {
      const Name name{handler.name, i};
      Place& place = places_[name];
      if (place.thread.joinable() && !place.done) continue;
      if (place.thread.joinable()) place.thread.join();
      place.done = false;
      place.thread = std::thread([this, name] { serve(name); });
    }
  }
}

bool Worker::is_done() {
  const MutexLock lock(mutex_);
  for (const auto& [name, place] : places_) {
    if (!place.done) return false;
  }
  return true;
}

std::size_t Worker::places() {
  const MutexLock lock(mutex_);
  std::size_t count = 0;
  for (const auto& handler : config_->handlers) count += handler.parallel;
  return count;
}

std::optional<HandlerConfig> Worker::current(const Name& name) {
  const MutexLock lock(mutex_);
  const HandlerConfig* handler = config_->find(name.first);
  if (!draining_.raised() && handler != nullptr && name.second < handler->parallel) return *handler;
  places_[name].done = true;
  return std::nullopt;
}

void Worker::serve(const Name& name) {
  LogLimiter limiter(system_clock());
  std::chrono::milliseconds pause = 0ms;
  while (const auto handler = current(name)) {
    std::chrono::milliseconds poll;
    {
      const MutexLock lock(mutex_);
      poll = config_->poll;
    }
    try {
      wire::Request request;
      request.mutable_task_take()->set_handler(handler->name);
      if (handler->user) request.mutable_task_take()->set_runs_as(handler->user->uid);
      const auto sent = boot_now();
      auto response = agent_.call(request);
      pause = 0ms;
      if (!response.task_take().has_task()) {
        draining_.wait(poll);
        continue;
      }
      const std::chrono::milliseconds lease(response.task_take().lease_ms());
      const auto& grant = response.task_take().grant();
      do_task(agent_, *handler,
              {response.task_take().task(), sent + lease, {grant.begin(), grant.end()}}, killed_);
    } catch (const Error& error) {
      if (limiter.admit(std::string(code_name(error.code()))))
        log_warning("worker", handler->name + ": no tasks: " + error.what());
      pause = std::min(std::max(pause * 2, poll), longest_pause(error.code()));
      draining_.wait(pause);
    }
  }
}

}  // namespace keyagent::worker
