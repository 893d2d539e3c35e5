// SPDX-License-Identifier: Apache-2.0
#pragma once
// The members of request bodies in the OpenAPI documents (request_bounds.py).

#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/command.h"

namespace keyagent::test {

struct RequestMember {
  std::string document, method, path, member, kind;
  std::size_t max = 0;
};

inline std::vector<RequestMember> request_members() {
  const auto listed =
      try_command("python3 " KEYAGENT_SOURCE "/tests/instance/request_bounds.py " KEYAGENT_SOURCE
                  "/agent/instance 2>&1");
  if (listed.status != 0) throw std::runtime_error(listed.output);
  std::vector<RequestMember> out;
  std::istringstream lines(listed.output);
  RequestMember each;
  while (lines >> each.document >> each.method >> each.path >> each.member >> each.kind >> each.max)
    out.push_back(each);
  return out;
}

// A body whose `member` ("transport.spki") has this value.
inline nlohmann::ordered_json body_with(const std::string& member,
                                        const nlohmann::ordered_json& value) {
  nlohmann::ordered_json body = value;
  for (std::size_t end = member.size(); end != std::string::npos;) {
    const auto dot = end == 0 ? std::string::npos : member.rfind('.', end - 1);
    const auto from = dot == std::string::npos ? 0 : dot + 1;
    nlohmann::ordered_json outer = nlohmann::ordered_json::object();
    outer[member.substr(from, end - from)] = std::move(body);
    body = std::move(outer);
    end = dot;
  }
  return body;
}

}  // namespace keyagent::test
