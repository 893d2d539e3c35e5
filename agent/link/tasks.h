// SPDX-License-Identifier: Apache-2.0
#pragma once
// Tasks of the instance for workers of this host: taken, kept and ended here, run by others
// (keyagent worker). A task is started once, whatever dies; its outcome is never lost.

#include <map>
#include <string>

#include "agent/base/mutex.h"
#include "agent/link/instance_line.h"
#include "agent/link/task_journal.h"

namespace keyagent::link {

// Thread-safe. A lease counts from before its request was sent, on the steady clock, so it ends
// here before the instance gives the task to another agent.
class Tasks {
 public:
  static constexpr std::size_t kMaxResult = 64 << 10;

  Tasks(const LinkContext& around, LinkStore& store, OwnKeys& keys, TlsLibrary& library,
        const InstanceConnection& uplink);

  // For gate::InstanceLink. Throw Error: kKeyState (not trusted; the lease has expired), kDenied
  // (another user's task), kBusy (the connection is in use; too many outcomes wait), kPeer (it is
  // unreachable). take() leaves the reply empty when there is no task, and while the instance is
  // unreachable.
  void take(std::uint32_t uid, const wire::TaskTakeRequest& request, wire::TaskTakeReply& reply);
  // The name of the credential of a started task, for the caller that presents its grant.
  // Error{kDenied}: it has none.
  std::string credential_of(std::uint32_t uid, const wire::TaskCredentialRequest& request) const;
  // Whether a handler runs as this uid, according to the leases.
  bool runs_tasks(std::uint32_t uid) const;
  void keep(std::uint32_t uid, const wire::TaskKeepRequest& request, wire::TaskKeepReply& reply);
  // Synced before it returns. Idempotent.
  void end(std::uint32_t uid, const wire::TaskEndRequest& request);
  void list(wire::TaskListReply& reply) const;
  std::size_t running() const { return journal_.started(); }
  std::size_t waiting() const { return journal_.waiting(); }

  // There may be tasks: each handler's next take() asks the instance.
  void news();
  // Delivers outcomes, in their order. For the link's thread, often, while connected.
  void deliver();
  void forget_all() { journal_.forget_all(); }

 private:
  struct Look {
    std::uint64_t seen = 0;  // the news that were answered with "none"
    SteadyTime next{};
  };
  bool is_due(const std::string& handler, std::uint64_t& news);
  void found_none(const std::string& handler, std::uint64_t news, std::chrono::milliseconds pause);
  std::optional<TakenTask> ask(const LinkState& state, const std::string& handler)
      REQUIRES(line_.turn());
  bool is_new(const TakenTask& task);
  bool start(const LinkState& state, const TakenTask& task, TaskEntry entry) REQUIRES(line_.turn());
  TaskEntry require_own(std::uint32_t uid, const std::string& handler, const std::string& id) const;
  void require_served(const LinkState& state) REQUIRES(line_.turn());
  bool deliver_next(const LinkState& state);
  void note_lease(const std::string& id, SteadyTime sent, std::chrono::milliseconds lease);
  std::uint32_t lease_left(const std::string& id) const;  // milliseconds
  void tell(keys::KeyEvent::Weight weight, const char* what, const TaskEntry& entry, Code code,
            const std::string& detail) const;

  const LinkContext& context_;
  LinkStore& store_;
  const InstanceConnection& uplink_;
  TaskJournal journal_;
  InstanceLine line_;              // one request to the instance at a time
  const SteadyTime leases_known_;  // before that a start of the agent may have forgotten some
  mutable Mutex mutex_;
  std::uint64_t news_ GUARDED_BY(mutex_) = 1;
  std::map<std::string, Look> looks_ GUARDED_BY(mutex_);         // by handler
  std::map<std::string, SteadyTime> leases_ GUARDED_BY(mutex_);  // by task: when they end
  // The link's thread's.
  SteadyTime next_delivery_{};
  int failures_ = 0;
};

}  // namespace keyagent::link
