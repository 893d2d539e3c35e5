// SPDX-License-Identifier: Apache-2.0
#pragma once
// A strict reader of YAML configuration: every key must be asked for, every fault names file, line
// and fix.

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace keyagent {

// One mapping of a YAML document. Values are read by name with a type; finish() refuses names that
// were not read (and suggests the nearest known one). Duplicate names, anchors and tags are
// refused. Not thread-safe; cheap to copy.
class YamlReader {
 public:
  // Throws Error{kConfiguration}: absent, over 1 MiB, writable by group or others (with the chmod),
  // bad YAML (line).
  static YamlReader from_file(const std::filesystem::path& path);
  // `source` stands for the file name in messages.
  static YamlReader from_text(std::string_view text, std::string source);

  bool has(const std::string& name) const;
  bool is_value(const std::string& name) const;  // there, and neither a mapping nor a list
  // Required when no default is given; Error{kConfiguration} "FILE:LINE: …" otherwise.
  std::string text(const std::string& name) const;
  std::string text(const std::string& name, const std::string& otherwise) const;
  long integer(const std::string& name, long otherwise, long least, long most) const;
  bool boolean(const std::string& name, bool otherwise) const;
  // "250ms", "5s", "10m", "24h", "90d".
  std::chrono::milliseconds duration(const std::string& name,
                                     std::chrono::milliseconds otherwise) const;
  std::vector<std::string> texts(
      const std::string& name) const;               // a list, or one value; empty when absent
  YamlReader child(const std::string& name) const;  // a mapping; an empty one when absent
  std::vector<YamlReader> children(
      const std::string& name) const;      // a list of mappings; empty when absent
  std::vector<std::string> names() const;  // all names in file order
  // "FILE:LINE" of a name, or of the mapping when it is empty: for messages of the caller's own
  // checks.
  std::string where(const std::string& name = {}) const;
  // Throws Error{kConfiguration} for the first name that was never asked for, here and in every
  // child.
  void finish() const;

 private:
  struct Node;
  explicit YamlReader(std::shared_ptr<Node> node) : node_(std::move(node)) {}
  std::shared_ptr<Node> node_;
};

}  // namespace keyagent
