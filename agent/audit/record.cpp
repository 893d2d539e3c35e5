// SPDX-License-Identifier: Apache-2.0
#include "agent/audit/record.h"

#include <nlohmann/json.hpp>

#include "agent/base/encoding.h"

namespace keyagent::audit {
namespace {

constexpr std::string_view kHashField = ",\"hash\":\"";

class Writer {
 public:
  Writer(std::uint64_t seq, WallTime time, const std::string& prev) {
    line_ = "{\"seq\":" + std::to_string(seq) + ",\"time\":\"" + rfc3339(time) + "\",\"prev\":\"" +
            prev + "\"";
  }
  Writer& text(std::string_view name, std::string_view value) {
    if (value.empty()) return *this;
    key(name);
    append_json_string(line_, value);
    return *this;
  }
  Writer& number(std::string_view name, std::uint64_t value) {
    key(name);
    line_ += std::to_string(value);
    return *this;
  }
  // The hash binds everything before it, `prev` included: that is the chain.
  std::string finish() {
    const std::string hash = to_hex(sha256(as_bytes(line_)));
    line_.append(kHashField).append(hash).append("\"}");
    return std::move(line_);
  }

 private:
  void key(std::string_view name) { line_.append(",\"").append(name).append("\":"); }
  std::string line_;
};

template <class Value>
void take(const nlohmann::json& json, const char* name, Value& out) {
  if (json.contains(name)) out = json.at(name).get<Value>();
}

}  // namespace

std::string format_event(std::uint64_t seq, WallTime time, const std::string& prev,
                         const Event& event) {
  Writer writer(seq, time, prev);
  writer.text("what", shorten(event.what, kMaxWord)).text("who", shorten(event.who, kMaxName));
  if (event.pid != 0) writer.number("pid", static_cast<std::uint64_t>(event.pid));
  return writer.text("key", shorten(event.key, kMaxName))
      .text("kid", shorten(event.kid, kMaxWord))
      .text("outcome", shorten(event.outcome, kMaxWord))
      .text("rule", shorten(event.rule, kMaxName))
      .text("detail", shorten(event.detail, kMaxDetail))
      .finish();
}

std::string shorten_line(std::string_view line, std::size_t max) {
  if (line.size() <= max) return std::string(line);
  auto json = nlohmann::ordered_json::parse(line, nullptr, false);
  if (!json.is_object()) json = {{"what", "unreadable"}};
  for (auto& value : json) {
    if (value.is_string()) {
      value = shorten_escaped(value.get_ref<const std::string&>(), max / 16);
    } else if (value.is_structured()) {
      value = nullptr;
    }
  }
  json["cut"] = line.size();
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string format_checkpoint(std::uint64_t seq, WallTime time, const std::string& prev,
                              std::uint64_t size, const CheckpointSignature& signature) {
  return Writer(seq, time, prev)
      .text("what", "checkpoint")
      .number("size", size)
      .text("kid", signature.kid)
      .text("alg", signature.algorithm)
      .text("signature", to_base64url(signature.signature))
      .finish();
}

std::optional<Line> parse_line(std::string_view text) {
  const auto at = text.rfind(kHashField);
  if (at == std::string_view::npos) return std::nullopt;
  try {
    const auto json = nlohmann::json::parse(text);
    Line line;
    line.seq = json.at("seq").get<std::uint64_t>();
    line.prev = json.at("prev").get<std::string>();
    line.hash = json.at("hash").get<std::string>();
    // The whole line is rebuilt from what was hashed, so that not even its end can be changed
    // unnoticed.
    const std::string expected = to_hex(sha256(as_bytes(text.substr(0, at))));
    line.hash_fits = text.substr(at) == std::string(kHashField) + expected + "\"}";
    line.is_checkpoint = json.value("what", "") == "checkpoint";
    if (line.is_checkpoint) {
      take(json, "size", line.size);
      take(json, "kid", line.kid);
      take(json, "alg", line.algorithm);
      line.signature = from_base64url(json.value("signature", "")).value_or(Bytes{});
    }
    return line;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

std::string checkpoint_payload(std::uint64_t size, const std::string& hash) {
  return "keyagent-audit-checkpoint-v1\n" + std::to_string(size) + "\n" + hash + "\n";
}

std::string format_external(std::uint64_t size, const std::string& hash, WallTime time,
                            const CheckpointSignature& signature) {
  std::string text = "{\"size\":" + std::to_string(size) + ",\"hash\":\"" + hash +
                     "\",\"time\":\"" + rfc3339(time) + "\",\"kid\":";
  append_json_string(text, signature.kid);
  text += ",\"alg\":";
  append_json_string(text, signature.algorithm);
  text += ",\"signature\":\"" + to_base64url(signature.signature) + "\"}\n";
  return text;
}

std::optional<External> parse_external(std::string_view text) {
  try {
    const auto json = nlohmann::json::parse(text);
    return External{json.at("size").get<std::uint64_t>(), json.at("hash").get<std::string>(),
                    json.at("kid").get<std::string>(), json.at("alg").get<std::string>(),
                    from_base64url(json.at("signature").get<std::string>()).value_or(Bytes{})};
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

}  // namespace keyagent::audit
