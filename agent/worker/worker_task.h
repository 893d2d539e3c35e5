// SPDX-License-Identifier: Apache-2.0
#pragma once
// One task of a worker, from its lease to its outcome.

#include "agent/client/client.h"
#include "agent/worker/worker_handler.h"

namespace keyagent::worker {

struct TakenTask {
  wire::Task task;
  BootTime until;     // of its lease
  SecretBytes grant;  // fetches its credential
};

// Keeps its lease, fetches its credential, runs the handler and tells the agent its outcome. Blocks
// until the agent has that on its disk, or the task is not this worker's anymore. After `killed`
// nothing is waited for longer than some seconds. Throws nothing.
void do_task(client::Client& agent, const HandlerConfig& handler, const TakenTask& taken,
             const Flag& killed);

}  // namespace keyagent::worker
