// SPDX-License-Identifier: Apache-2.0
#pragma once
// A program of the operator's that is asked before some keys sign for ssh. Its interface:
// README.md, and keyagentd.yml(5).

#include <cstdint>
#include <functional>
#include <map>
#include <thread>
#include <vector>

#include "agent/audit/audit_log.h"
#include "agent/base/disk.h"
#include "agent/base/mutex.h"
#include "agent/config/config.h"
#include "agent/sshagent/confirmation.h"

namespace keyagent::daemon {

// Thread-safe. Each question has a separate thread, so that no server thread waits for a person.
// The number of open questions is limited, in total and per uid; further ones are refused. Every
// answer is recorded before it is given; if it cannot be recorded, the answer is no.
class SshConfirmation final : public sshagent::Confirmation {
 public:
  // Writes to the audit log, synced; throws Error when it cannot. A caller's many refusals may be
  // counted instead.
  using Record = std::function<void(const policy::Principal&, audit::Event)>;

  SshConfirmation(config::SshConfirm config, Record record);
  ~SshConfirmation() override { stop(); }
  bool wanted(const std::string& key) const override;
  void ask(sshagent::Question question, Then then) override;
  // Ends the programs that run; waits for their questions, and refuses those that come.
  void stop();

 private:
  struct Answer {
    bool yes;
    std::string why;
  };
  // Empty: it may be asked.
  std::string why_refused(std::uint32_t uid) const REQUIRES(mutex_);
  Answer run(const sshagent::Question& question) const;
  void give(const sshagent::Question& question, Answer answer, const Then& then) const;
  void ended(std::uint64_t id, std::uint32_t uid);

  const config::SshConfirm config_;
  const Record record_;
  const Fd stop_;  // an eventfd; readable: the programs are to end
  Mutex mutex_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::uint64_t next_ GUARDED_BY(mutex_) = 0;
  std::map<std::uint64_t, std::thread> threads_ GUARDED_BY(mutex_);
  std::vector<std::thread> done_ GUARDED_BY(mutex_);               // to be joined
  std::map<std::uint32_t, std::size_t> asked_ GUARDED_BY(mutex_);  // by uid
};

}  // namespace keyagent::daemon
