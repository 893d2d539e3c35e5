// SPDX-License-Identifier: Apache-2.0
#pragma once
// What /proc says of a process.

#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

namespace keyagent::bench {

class ProcessFacts {
 public:
  explicit ProcessFacts(const std::string& pid) : folder_("/proc/" + pid) {}
  std::int64_t resident_kib() const {
    std::ifstream in(folder_ + "/status");
    for (std::string line; std::getline(in, line);) {
      if (line.starts_with("VmRSS:")) return std::stoll(line.substr(6));
    }
    throw std::runtime_error("there is no process " + folder_);
  }
  // Seconds of user and system time so far.
  double cpu() const {
    std::ifstream in(folder_ + "/stat");
    std::string text;
    std::getline(in, text);
    std::istringstream fields(text.substr(text.rfind(')') + 2));
    std::string skipped;
    for (int i = 0; i < 11; ++i) fields >> skipped;
    double user = 0, system = 0;
    fields >> user >> system;
    return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  }

 private:
  const std::string folder_;
};

}  // namespace keyagent::bench
