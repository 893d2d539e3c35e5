// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/request_check.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "agent/base/error.h"

namespace keyagent::gate {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Every request, with every string of it set to `text`, one at a time.
template <class Use>
void each_text(const std::string& text, Use use) {
  const wire::Request empty;
  const auto* type = empty.GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const auto* op = type->field(i);
    if (op->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    for (int j = 0; j < op->message_type()->field_count(); ++j) {
      const auto* field = op->message_type()->field(j);
      wire::Request request;
      auto* inner = request.GetReflection()->MutableMessage(&request, op);
      if (field->type() == FieldDescriptor::TYPE_STRING && !field->is_repeated()) {
        inner->GetReflection()->SetString(inner, field, text);
        use(request, *field);
      }
    }
  }
}

bool refused(const wire::Request& request) {
  try {
    check_request(request);
    return false;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kUsage);
    EXPECT_LT(std::string(error.what()).size(), 256u);
    return true;
  }
}

TEST(RequestCheck, Fault155_AMebibyteInAnyFieldIsRefused) {
  int fields = 0;
  each_text(std::string(1U << 20U, 'x'), [&](const auto& request, const auto& field) {
    EXPECT_TRUE(refused(request)) << field.full_name();
    ++fields;
  });
  EXPECT_GT(fields, 40);
}

TEST(RequestCheck, Fault155_ControlCharactersAndWhatIsNotUtf8AreRefused) {
  for (const std::string text :
       {"a\nb", "a\x1b[31m", "a\tb", "\xff\xfe", "\xc3", "a\xe2\x80\xae", "a\x7f", "a\xc2\x85"}) {
    each_text(text, [&](const auto& request, const auto& field) {
      const std::string name(field.name());
      // A document may have lines; what a task's program says is escaped where it is kept.
      if (name == "result" || name == "text" || name == "external_checkpoint") return;
      EXPECT_TRUE(refused(request)) << field.full_name();
    });
  }
  each_text(std::string("a\0b", 3), [&](const auto& request, const auto& field) {
    const std::string name(field.name());
    if (name == "result" || name == "text") return;
    EXPECT_TRUE(refused(request)) << field.full_name();
  });
}

TEST(RequestCheck, WhatPeopleWriteIsTaken) {
  each_text("Schlüssel für 日本, \"quoted\" \\ 'x'", [&](const auto& request, const auto& field) {
    EXPECT_FALSE(refused(request)) << field.full_name();
  });
  wire::Request request;
  for (int i = 0; i < 2000; ++i)
    request.mutable_census_report()->add_entries()->set_kid(std::string(43, 'k'));
  EXPECT_FALSE(refused(request));
  request.mutable_census_report()->mutable_entries(1999)->set_kid(std::string(129, 'k'));
  EXPECT_TRUE(refused(request)) << "repeated messages are looked into";
}

}  // namespace
}  // namespace keyagent::gate
