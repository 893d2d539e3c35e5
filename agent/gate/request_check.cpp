// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/request_check.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <string>
#include <vector>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::gate {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// kLine: one line of text. kText: line breaks and tabs too. kAny: whatever is UTF-8, for what is
// never recorded or logged, or escaped before it is kept (link/tasks).
enum class Form { kLine, kText, kAny };

struct Limit {
  std::string_view field;  // its name, in whatever message it is
  std::size_t max;         // bytes
  Form form = Form::kLine;
};

constexpr Limit kDefault{"", 256};
constexpr Limit kLimits[] = {
    // Names and identifiers. A key name has at most 63 characters and a kid 43; what is longer is
    // not there, and is still named in the answer.
    {"key", 128},
    {"name", 128},
    {"kid", 128},
    {"confirm_kid", 128},
    {"exchange_key", 128},
    {"auth_key", 128},
    {"transport_key", 128},
    {"identity", 128},
    {"target", 128},
    {"peer", 128},
    {"handler", 128},
    {"id", 128},
    {"agent", 128},
    // Words of a fixed list.
    {"action", 64},
    {"purpose", 64},
    {"algorithm", 64},
    {"envelope", 64},
    {"content_encryption", 64},
    {"hash", 64},
    {"state", 64},
    {"outcome", 64},
    // Texts.
    {"reason", 512},
    {"source", 4096},  // limits.census-source-bytes is lower
    {"text", 4096, Form::kAny},
    {"url", 2048},
    // Documents.
    {"result", 64 * 1024, Form::kAny},
    {"external_checkpoint", 64 * 1024, Form::kText},
};

const Limit& limit_of(const FieldDescriptor& field) {
  const auto* found = std::find_if(std::begin(kLimits), std::end(kLimits),
                                   [&](const Limit& each) { return each.field == field.name(); });
  return found == std::end(kLimits) ? kDefault : *found;
}

bool is_allowed(const std::string& text, Form form) {
  if (form == Form::kAny) return true;
  if (form == Form::kLine) return is_plain_text(text);
  std::string lines = text;
  std::replace_if(
      lines.begin(), lines.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  return is_plain_text(lines);
}

void check_text(const FieldDescriptor& field, const std::string& text) {
  const Limit& limit = limit_of(field);
  const auto refuse = [&](const std::string& why) {
    throw Error(Code::kUsage, "the request's field " + std::string(field.name()) + " " + why);
  };
  if (text.size() > limit.max) {
    refuse("has " + std::to_string(text.size()) + " bytes: at most " + std::to_string(limit.max) +
           " are accepted");
  }
  if (!is_allowed(text, limit.form))
    refuse("contains control characters or is not UTF-8: send plain text");
}

void check_message(const Message& message) {
  const auto& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  std::string scratch;
  for (const auto* field : fields) {
    const bool text = field->type() == FieldDescriptor::TYPE_STRING;
    const bool nested = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (!text && !nested) continue;
    const int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      if (text && field->is_repeated()) {
        check_text(*field, reflection.GetRepeatedStringReference(message, field, i, &scratch));
      } else if (text) {
        check_text(*field, reflection.GetStringReference(message, field, &scratch));
      } else {
        check_message(field->is_repeated() ? reflection.GetRepeatedMessage(message, field, i)
                                           : reflection.GetMessage(message, field));
      }
    }
  }
}

}  // namespace

void check_name(const char* what, std::string_view name) {
  constexpr std::size_t kMax = 128;
  if (name.size() <= kMax && is_plain_text(name)) return;
  throw Error(Code::kUsage, std::string(what) + " has " + std::to_string(name.size()) +
                                " bytes or contains control characters: at most " +
                                std::to_string(kMax) + " bytes of plain text are accepted");
}

void check_request(const wire::Request& request) {
  check_message(request);
}

}  // namespace keyagent::gate
