// SPDX-License-Identifier: Apache-2.0
#pragma once
// Responses of the instance, as JSON with required members.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace keyagent::link {

// One object, of 8 MiB and 16 levels at most, no name twice. What is missing or of another kind
// throws Error{kPeer} that names it: the instance is another version, or broken.
class Answer {
 public:
  explicit Answer(const std::string& text);
  explicit Answer(nlohmann::json object);

  bool has(const char* name) const;
  bool is_null(const char* name) const;
  std::string text(const char* name) const;
  std::string text_or(const char* name, const std::string& otherwise) const;
  std::uint64_t number(const char* name) const;
  std::uint64_t number_or(const char* name, std::uint64_t otherwise) const;
  bool flag(const char* name) const;
  double seconds(const char* name) const;
  // An identifier of theirs, a text or a number, to be sent back as it came.
  nlohmann::json id(const char* name) const;
  Answer object(const char* name) const;
  std::vector<Answer> objects(const char* name) const;
  std::vector<std::string> texts(const char* name) const;
  // All of it, as JSON.
  std::string dump() const;

 private:
  const nlohmann::json& member(const char* name) const;
  nlohmann::json object_;
};

}  // namespace keyagent::link
