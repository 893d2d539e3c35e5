// SPDX-License-Identifier: Apache-2.0
// Stops a process at every point of its writes and checks whether what it keeps is whole, and
// whether every write that was acknowledged is there (RELIABILITY 76, 78, 80).
//
// usage: power_test [--subject NAME] [--mode kill|power|torn|enospc|eio] [--from N] [--step N]
//                   [--verbose]
//
// Without --subject or --mode: all of them. One line each; exit 1 when anything was violated. The
// modes are those of stop_at. After kill, power and torn the state is what it was after the last
// acknowledged write, or after the next one, and the rest of the writes can be done on it. After a
// write that failed for the disk, the same write can be done again.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>

#include "agent/base/error.h"
#include "tests/crash/power_subject.h"
#include "tests/support/temp_folder.h"

namespace keyagent::test {

const std::vector<std::string>& PowerSubject::names() {
  static const std::vector<std::string> kNames{"link", "tasks",  "versions",
                                               "pin",  "schema", "store"};
  return kNames;
}

std::unique_ptr<PowerSubject> PowerSubject::open(const std::string& name,
                                                 const std::filesystem::path& folder) {
  if (name == "link") return open_link_state(folder);
  if (name == "tasks") return open_task_journal(folder);
  if (name == "versions") return open_versions(folder);
  if (name == "pin") return open_refused_pin(folder);
  if (name == "schema" || name == "store") return open_instance_store(folder, name == "store");
  throw std::runtime_error("unknown subject " + name);
}

namespace {

namespace fs = std::filesystem;

struct Options {
  std::vector<std::string> subjects = PowerSubject::names();
  std::vector<std::string> modes{"kill", "power", "torn", "enospc", "eio"};
  long from = 1, step = 1;
  bool verbose = false;
};

std::string slurp_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// --- the process that is stopped
// -------------------------------------------------------------------------------------------------

// One byte for each write that was acknowledged. A write that fails for the disk is done again.
int act(const std::string& name, const fs::path& folder, const fs::path& acks) {
  const int out = ::open(acks.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  std::unique_ptr<PowerSubject> subject;
  try {
    subject = PowerSubject::open(name, folder);
  } catch (const std::exception&) {
    subject = PowerSubject::open(name, folder);
  }
  for (int i = 0; i < subject->steps(); ++i) {
    try {
      subject->step(i);
    } catch (const std::exception&) {
      subject->step(i);
    }
    if (::write(out, ".", 1) != 1) return 3;
  }
  return 0;
}

// --- who checks it
// -------------------------------------------------------------------------------------------------

class Examiner {
 public:
  Examiner(std::string name, const Options& options)
      : name_(std::move(name)), options_(options), folder_(temp_.path() / "state") {
    fs::create_directory(begin());
    fs::permissions(begin(), fs::perms(0700));
    // The initial creation is not part of every run; for "schema" it is the whole run.
    if (name_ != "schema") PowerSubject::open(name_, begin());
    fresh();
    const auto subject = PowerSubject::open(name_, folder_);
    expected_.push_back(subject->look());
    for (int i = 0; i < subject->steps(); ++i) {
      subject->step(i);
      expected_.push_back(PowerSubject::open(name_, folder_)->look());
    }
  }

  // False: something was violated.
  bool examine(const std::string& mode) {
    run({});
    const std::string all = slurp_file(temp_.path() / "points");
    const long points = std::count(all.begin(), all.end(), '\n');
    long reached = 0, violated = 0, missed = 0;
    for (long point = options_.from; point <= points; point += options_.step) {
      const int status = run({"--at", std::to_string(point), "--do", mode});
      std::string where = slurp_file(temp_.path() / "points");
      if (where.empty()) {
        ++missed;
        continue;
      }
      where.erase(where.find_last_not_of('\n') + 1);
      ++reached;
      const std::string wrong = fails(mode) ? judge_failure(status) : judge();
      if (wrong.empty()) continue;
      ++violated;
      std::cout << "  " << name_ << " " << mode << " " << point << " " << where << ": " << wrong
                << "\n";
    }
    std::printf("%-9s %-7s %5ld points, %5ld stopped at, %ld violations\n", name_.c_str(),
                mode.c_str(), points, reached, violated);
    std::fflush(stdout);
    // The same work makes the same calls, but for a few of the database's own.
    if (missed * 10 > reached + missed) std::cout << "  " << missed << " points not reached\n";
    return violated == 0 && reached > 0 && missed * 10 <= reached + missed;
  }

 private:
  static bool fails(const std::string& mode) { return mode == "enospc" || mode == "eio"; }
  void fresh() const {
    fs::remove_all(folder_);
    fs::copy(begin(), folder_, fs::copy_options::recursive);
    fs::permissions(folder_, fs::perms(0700));
  }
  fs::path begin() const { return temp_.path() / "begin"; }
  int run(const std::vector<std::string>& how) const {
    fresh();
    fs::remove(acks());
    fs::remove(temp_.path() / "points");
    std::vector<std::string> words{STOP_AT, "--root", folder_.string(), "--report",
                                   (temp_.path() / "points").string()};
    words.insert(words.end(), how.begin(), how.end());
    words.insert(words.end(),
                 {"--", "/proc/self/exe", "--act", name_, folder_.string(), acks().string()});
    *std::find(words.begin(), words.end(), "/proc/self/exe") = fs::read_symlink("/proc/self/exe");
    std::vector<char*> argv;
    for (auto& each : words) argv.push_back(each.data());
    argv.push_back(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      const int quiet = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
      if (!options_.verbose) ::dup2(quiet, 2);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  fs::path acks() const { return temp_.path() / "acks"; }

  // What was violated after it was stopped, or nothing.
  std::string judge() const {
    const std::size_t known = slurp_file(acks()).size();
    try {
      const auto subject = PowerSubject::open(name_, folder_);
      const std::string found = subject->look();
      const bool next = known + 1 < expected_.size() && found == expected_[known + 1];
      if (!next && found != expected_[known])
        return "after " + std::to_string(known) + " acknowledged writes it is\n" + found +
               "and not\n" + expected_[known];
      for (std::size_t i = known + (next ? 1 : 0); i + 1 < expected_.size(); ++i)
        subject->step(static_cast<int>(i));
      if (PowerSubject::open(name_, folder_)->look() != expected_.back())
        return "what was done after it is not there";
    } catch (const std::exception& error) {
      return error.what();
    }
    return {};
  }
  std::string judge_failure(int status) const {
    if (status != 0)
      return "a failed write could not be done again (" + std::to_string(status) + ")";
    try {
      if (PowerSubject::open(name_, folder_)->look() != expected_.back())
        return "after a write that failed and was done again it is another";
    } catch (const std::exception& error) {
      return error.what();
    }
    return {};
  }

  const std::string name_;
  const Options& options_;
  TempFolder temp_;
  const fs::path folder_;
  std::vector<std::string> expected_;  // by number of steps done
};

Options parse_power(int argc, char** argv) {
  Options options;
  CLI::App app;
  app.add_flag("--verbose", options.verbose);
  app.add_option("--subject", options.subjects)->check(CLI::IsMember(PowerSubject::names()));
  app.add_option("--mode", options.modes);
  app.add_option("--from", options.from)->check(CLI::PositiveNumber);
  app.add_option("--step", options.step)->check(CLI::PositiveNumber);
  app.parse(argc, argv);
  return options;
}

}  // namespace
}  // namespace keyagent::test

int main(int argc, char** argv) {
  using namespace keyagent::test;
  try {
    if (argc == 5 && std::string(argv[1]) == "--act") return act(argv[2], argv[3], argv[4]);
    const Options options = parse_power(argc, argv);
    bool good = true;
    for (const auto& name : options.subjects) {
      Examiner examiner(name, options);
      for (const auto& mode : options.modes) good = examiner.examine(mode) && good;
    }
    return good ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "power_test: %s\n", error.what());
    return 2;
  }
}
