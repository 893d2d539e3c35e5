// SPDX-License-Identifier: Apache-2.0
#pragma once
// A folder with an audit log, and a signer for its checkpoints.

#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "agent/audit/audit_log.h"
#include "agent/base/disk.h"
#include "agent/base/encoding.h"
#include "tests/support/fake_clock.h"
#include "tests/support/software_keys.h"
#include "tests/support/temp_folder.h"

namespace keyagent::audit {

class AuditFolder {
 public:
  Options options() const {
    Options options;
    options.folder = folder_.path() / "audit";
    options.clock = &clock_;
    options.commit_interval = std::chrono::milliseconds(1);
    return options;
  }
  std::filesystem::path folder() const { return folder_.path() / "audit"; }
  std::filesystem::path log() const { return folder() / "audit.log"; }
  std::string text() const { return std::string(as_text(read_file(log(), 64 << 20))); }
  void write(const std::string& text) const {
    std::ofstream(log(), std::ios::binary | std::ios::trunc) << text;
  }
  std::vector<std::string> lines() const {
    std::istringstream in(text());
    std::vector<std::string> all;
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  }
  test::FakeClock& clock() { return clock_; }

 private:
  test::TempFolder folder_;
  mutable test::FakeClock clock_;
};

inline Event event(const std::string& what, const std::string& key = "backup-1") {
  Event event;
  event.what = what;
  event.who = "uid 1000";
  event.pid = 4242;
  event.key = key;
  event.outcome = "ok";
  event.rule = "backup-opens";
  return event;
}

// An audit key in this process's memory.
class Auditor {
 public:
  explicit Auditor(KeyAlgorithm algorithm = KeyAlgorithm::kEcP256)
      : info_(keys_.add("audit", Purpose::kAudit, algorithm)) {}

  CheckpointSigner signer() {
    return [this](ByteView payload) {
      const auto algorithm = *default_signature(info_.algorithm);
      const bool whole = digest_of(algorithm) == DigestAlgorithm::kNone;
      const Bytes digest = whole ? Bytes(payload.begin(), payload.end()) : sha256(payload);
      return CheckpointSignature{info_.kid.text(), std::string(name_of(algorithm)),
                                 keys_.sign(info_.kid, algorithm, digest)};
    };
  }
  std::map<std::string, Bytes> public_keys() const { return {{info_.kid.text(), info_.spki}}; }

 private:
  test::SoftwareKeys keys_;
  PublicKeyInfo info_;
};

}  // namespace keyagent::audit
