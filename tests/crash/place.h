// SPDX-License-Identifier: Apache-2.0
#pragma once
// A host that can be restored to its saved state: a provisioned agent on a token.

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "agent/client/client.h"
#include "tests/support/swtpm.h"
#include "tests/support/temp_folder.h"

namespace keyagent::test {

class Place {
 public:
  enum class Kind { kSoftHsm, kTpm };
  explicit Place(Kind kind);
  ~Place();

  std::filesystem::path state() const { return folder_.path() / "state"; }
  // Where the token keeps what it keeps; inside state().
  std::filesystem::path store() const;

  // What restore() brings back is what is there now. The agent is not running.
  void save();
  void restore();

  // Starts keyagentd, behind `launcher` and its words if any, and waits until it listens or ended.
  void start(const std::vector<std::string>& launcher = {});
  bool serving() const;
  bool ended();
  void stop();  // SIGTERM, and SIGKILL after ten seconds
  void kill();
  client::Client client() const;
  std::string log() const;
  // How it ended without stop() or kill(): the exit status or 128 + signal; 0 while it has not.
  int status() const { return status_; }

  // SoftHSM rewrites token.object at each login and loses the token when it is killed inside that
  // (RELIABILITY X1).
  bool token_lost() const;
  void set_faults(const std::string& rules) const;
  std::string shim_calls() const;
  void use_shim();

 private:
  void provision();

  const Kind kind_;
  TempFolder folder_;
  std::unique_ptr<Swtpm> tpm_;
  pid_t pid_ = 0;
  int status_ = 0;
};

}  // namespace keyagent::test
