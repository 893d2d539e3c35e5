// SPDX-License-Identifier: Apache-2.0
// What agent and instance say to each other as JSON, and the paths of requests. What was taken
// reads the same when it is written again, every accessor gives a value or its refusal, and a path
// that matches is its pattern with what was found in it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "agent/base/error.h"
#include "agent/instance/api/paths.h"
#include "agent/instance/common/json.h"
#include "agent/link/answer.h"

namespace {

using namespace keyagent;

// The names that both of them use, so that the fuzzer finds them.
constexpr const char* kNames[] = {"type", "agent", "n", "challenges", "credentials", "kids", "id"};

template <class Read>
void attempt(Code refusal, Read&& read) {
  try {
    read();
  } catch (const Error& error) {
    if (error.code() != refusal) std::abort();
  }
}

void read_answer(const link::Answer& answer, int depth) {
  for (const char* name : kNames) {
    attempt(Code::kPeer, [&] { answer.text(name); });
    attempt(Code::kPeer, [&] { answer.text_or(name, {}); });
    attempt(Code::kPeer, [&] { answer.number(name); });
    attempt(Code::kPeer, [&] { answer.number_or(name, 1); });
    attempt(Code::kPeer, [&] { answer.seconds(name); });
    attempt(Code::kPeer, [&] { answer.texts(name); });
    // Sent back as it came: to be written again.
    attempt(Code::kPeer, [&] { answer.id(name).dump(); });
    if (depth == 0) continue;
    attempt(Code::kPeer, [&] { read_answer(answer.object(name), depth - 1); });
    attempt(Code::kPeer, [&] {
      for (const auto& each : answer.objects(name)) read_answer(each, depth - 1);
    });
  }
}

void read_body(const std::string& text) {
  const auto body = instance::parse_object(text);
  if (instance::parse_object(body.dump()) != body) std::abort();
  for (const char* name : kNames) {
    attempt(Code::kUsage, [&] { instance::text_of(body, name); });
    attempt(Code::kUsage, [&] { instance::text_of(body, name, {}); });
    attempt(Code::kUsage, [&] { instance::flag_of(body, name, false); });
    attempt(Code::kUsage, [&] { instance::texts_of(body, name); });
    attempt(Code::kUsage, [&] { instance::bytes_of(body, name); });
    attempt(Code::kUsage, [&] {
      const auto number = instance::number_of(body, name, 7, 0, INT64_MAX);
      if (number < 0) std::abort();
    });
  }
}

void read_path(const std::string& path) {
  for (const std::string pattern : {"/v1/agents", "/v1/agents/{}", "/v1/agents/{}/{}",
                                    "/v1/agents/{}/groups", "/v1/enrollments/{}/proof"}) {
    const auto ids = instance::match_path(pattern, path);
    if (!ids) continue;
    std::string filled;
    std::size_t at = 0;
    for (const auto& id : *ids) {
      if (id.empty() || id.find('/') != id.npos) std::abort();
      const auto hole = pattern.find("{}", at);
      filled += pattern.substr(at, hole - at) + id;
      at = hole + 2;
    }
    filled += pattern.substr(at);
    if (filled != path) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  attempt(Code::kPeer, [&] { read_answer(link::Answer(text), 2); });
  attempt(Code::kUsage, [&] { read_body(text); });
  read_path(text);
  return 0;
}
