// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the benchmark programs share: arguments, a closed loop on several threads, one line of JSON.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace keyagent::bench {

// "--name value" pairs. Throws std::runtime_error for anything else.
class Arguments {
 public:
  Arguments(int argc, char** argv);
  std::string text(const std::string& name) const;  // required
  std::string text(const std::string& name, const std::string& otherwise) const;
  unsigned number(const std::string& name, unsigned otherwise) const;

 private:
  std::map<std::string, std::string> values_;
};

struct Load {
  std::uint64_t operations = 0, failures = 0;
  double seconds = 0, per_second = 0, p50_us = 0, p99_us = 0;
  std::string first_failure;
};

using Work = std::function<void()>;

// Each thread makes its work by `prepare`, waits for the others, then repeats it for `duration`. An
// operation that throws is a failure. A tenth of the time before is not counted.
Load run(unsigned threads, std::chrono::milliseconds duration,
         const std::function<Work(unsigned)>& prepare);

// One line on standard output; 1 when nothing succeeded, for the exit status.
int print(const std::string& name, unsigned threads, const Load& load);

// main() of every program: prints what goes wrong as one line.
int guarded(int argc, char** argv, const std::function<int(const Arguments&)>& body);

}  // namespace keyagent::bench
