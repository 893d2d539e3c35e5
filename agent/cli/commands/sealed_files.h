// SPDX-License-Identifier: Apache-2.0
#pragma once
// Finds envelopes in folders and lists, and reads which key they are sealed to.

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/bytes.h"
#include "agent/cli/cli.h"
#include "agent/envelope/envelope.h"

namespace keyagent::cli {

struct SealedFile {
  std::filesystem::path path;
  Bytes envelope;     // without the newline at a JWE's end
  bool line = false;  // it had one
  std::string kid;    // empty: a key that the agent does not have, or one it cannot tell
};

struct UnreadableFile {
  std::string path, why;
};

// Which of the agent's keys an envelope names. Asks the agent for its keys once.
class Recipients {
 public:
  explicit Recipients(Session& session);
  // nullopt: no envelope.
  std::optional<SealedFile> read(const std::filesystem::path& path) const;
  // The same; a file that cannot be read is added to `unreadable`.
  std::optional<SealedFile> read(const std::filesystem::path& path,
                                 std::vector<UnreadableFile>& unreadable) const;
  // The key of this kid, as the agent described it; null: it has none.
  const wire::Key* key(const std::string& kid) const;
  // The generation that seals for this name now; null: none does.
  const wire::Key* active(const std::string& name) const;

 private:
  std::string kid_of(const envelope::Header& header) const;
  std::map<std::string, wire::Key> keys_;
  std::map<Bytes, std::string> by_recipient_id_;
};

struct FoundFiles {
  std::vector<std::filesystem::path> files;
  std::vector<UnreadableFile> unreadable;  // folders, and what the list names and is not there
};

// Regular files below `paths` (files or folders; symbolic links are not followed) and those that
// `list` names, a line each ("-": standard input), in a stable order. Throws Error{kUsage} for one
// of `paths` that does not exist.
FoundFiles files_under(const std::vector<std::string>& paths, const std::string& list);

}  // namespace keyagent::cli
