// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/api/bounds.h"

#include <algorithm>
#include <span>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/wiping.h"

namespace keyagent::instance {
namespace {

struct Bound {
  std::string_view path;
  std::size_t max;
};

constexpr std::size_t kOtherwise = 256;  // names, kids, ids, times
constexpr std::size_t kMaxName = 128;    // of a member

constexpr Bound kOfRequests[] = {{"csr", 64 * 1024},
                                 {"certificate", 512 * 1024},
                                 {"spki", 4096},
                                 {"transport.spki", 4096},
                                 {"sealed.envelope", 128 * 1024},
                                 {"value", 96 * 1024},
                                 {"input", 96 * 1024},
                                 {"result", 128 * 1024},
                                 {"message", 512 * 1024},
                                 {"body", 1024 * 1024},
                                 {"password", 2048},
                                 {"host", 1024},
                                 {"text", 4096},
                                 {"reason", 4096},
                                 {"path", 4096},
                                 {"url", 2048}};

// Longer texts for people are cut, not refused: an agent would send the same text again.
constexpr Bound kOfMessages[] = {{"epoch", 16 * 1024},     {"transport.confirmation", 16 * 1024},
                                 {"transport.spki", 4096}, {"audit.signature", 2048},
                                 {"version", 64 * 1024},   {"host", 64 * 1024},
                                 {"action", 64 * 1024},    {"subject", 64 * 1024},
                                 {"text", 64 * 1024}};

// Objects with members that users define.
constexpr std::string_view kOfAnyForm[] = {"value", "input"};

std::size_t max_of(std::span<const Bound> bounds, std::string_view path) {
  const auto found = std::find_if(bounds.begin(), bounds.end(),
                                  [&](const auto& each) { return each.path == path; });
  return found == bounds.end() ? kOtherwise : found->max;
}

[[noreturn]] void refuse(const std::string& path, std::size_t max, const char* what) {
  throw Error(Code::kUsage, "'" + escape_controls(path.substr(0, kMaxName)) +
                                "' is too long: " + std::to_string(max) + " " + what + " at most");
}

void check(std::span<const Bound> bounds, const Json& value, const std::string& path) {
  if (value.is_string()) {
    const auto max = max_of(bounds, path);
    if (value.get_ref<const std::string&>().size() > max) refuse(path, max, "bytes");
  } else if (value.is_array()) {
    if (value.size() > kMaxItems) refuse(path, kMaxItems, "items");
    for (const auto& each : value) check(bounds, each, path);
  } else if (value.is_object()) {
    const bool any =
        std::find(std::begin(kOfAnyForm), std::end(kOfAnyForm), path) != std::end(kOfAnyForm);
    if (any) {
      const auto max = max_of(bounds, path);
      auto text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
      const Wiping wiping(text);
      if (text.size() > max) refuse(path, max, "bytes");
      return;
    }
    for (const auto& [name, member] : value.items()) {
      if (name.size() > kMaxName) refuse(name, kMaxName, "bytes of a name");
      check(bounds, member, path.empty() ? name : path + "." + name);
    }
  }
}

}  // namespace

std::size_t max_text(std::string_view path) {
  return max_of(kOfRequests, path);
}

void require_bounds(const Json& body) {
  check(kOfRequests, body, {});
}

void require_bounds_of_message(const Json& message) {
  check(kOfMessages, message, {});
}

}  // namespace keyagent::instance
