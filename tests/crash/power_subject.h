// SPDX-License-Identifier: Apache-2.0
#pragma once
// What survives a power cut, as a list of steps: each is a write that is acknowledged when it
// returns. crash/power_test stops a process that does them at every point.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace keyagent::test {

class PowerSubject {
 public:
  virtual ~PowerSubject() = default;
  virtual int steps() const = 0;
  // From 0. Throws what the write throws.
  virtual void step(int number) = 0;
  // What is kept, as one text. Throws when it is torn: neither what it was nor what it becomes.
  virtual std::string look() = 0;

  static const std::vector<std::string>& names();
  // On what is kept in `folder`, empty at first. Throws for an unknown name.
  static std::unique_ptr<PowerSubject> open(const std::string& name,
                                            const std::filesystem::path& folder);
};

std::unique_ptr<PowerSubject> open_link_state(const std::filesystem::path& folder);
std::unique_ptr<PowerSubject> open_task_journal(const std::filesystem::path& folder);
std::unique_ptr<PowerSubject> open_versions(const std::filesystem::path& folder);
std::unique_ptr<PowerSubject> open_refused_pin(const std::filesystem::path& folder);
// Not `used`: its schema is made, and little else.
std::unique_ptr<PowerSubject> open_instance_store(const std::filesystem::path& folder, bool used);

}  // namespace keyagent::test
