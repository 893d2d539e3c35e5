// SPDX-License-Identifier: Apache-2.0
#pragma once
// `keyagent worker`: takes tasks from the agent and runs their handlers, up to the configured
// number at once.

#include <map>
#include <memory>
#include <string>
#include <thread>

#include "agent/base/mutex.h"
#include "agent/client/client.h"
#include "agent/worker/worker_config.h"
#include "agent/worker/worker_handler.h"

namespace keyagent::worker {

// Thread-safe. Each place of each handler has a thread, which is the parent of what it runs: when
// the worker dies, so do its handlers.
class Worker {
 public:
  // `socket`: the agent's.
  Worker(WorkerConfig config, const std::filesystem::path& socket);
  ~Worker();  // as kill()

  // Takes no more tasks; running handlers continue to their end.
  void drain();
  // Kills the running handlers and reports that to the agent.
  void kill();
  // For tasks taken from now on.
  void use(WorkerConfig config);
  // No handler runs. REQUIRES drain() before.
  bool is_done();
  std::size_t places();

 private:
  struct Place {
    std::thread thread;
    bool done = false;
  };
  using Name = std::pair<std::string, unsigned>;
  void open_places() REQUIRES(mutex_);
  void serve(const Name& name);
  // nullopt: this place no longer exists.
  std::optional<HandlerConfig> current(const Name& name);

  client::Client agent_;
  Flag draining_, killed_;
  Mutex mutex_;
  std::shared_ptr<const WorkerConfig> config_ GUARDED_BY(mutex_);
  std::map<Name, Place> places_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::worker
