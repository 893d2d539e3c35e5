// SPDX-License-Identifier: Apache-2.0
#include "agent/base/strict_json.h"

#include <set>
#include <string>
#include <vector>

namespace keyagent {
namespace {

using Json = nlohmann::json;

// Lets nothing through but notes names.
class NameCheck : public nlohmann::json_sax<Json> {
 public:
  explicit NameCheck(std::size_t depth) : depth_(depth) {}
  bool null() override { return inside(); }
  bool boolean(bool /*value*/) override { return inside(); }
  bool number_integer(number_integer_t /*value*/) override { return inside(); }
  bool number_unsigned(number_unsigned_t /*value*/) override { return inside(); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override {
    return inside();
  }
  bool string(string_t& /*value*/) override { return inside(); }
  bool binary(binary_t& /*value*/) override { return false; }
  bool start_object(std::size_t /*count*/) override {
    names_.emplace_back();
    return names_.size() <= depth_;
  }
  bool key(string_t& name) override { return names_.back().insert(name).second; }
  bool end_object() override { return pop(); }
  bool start_array(std::size_t /*count*/) override {
    if (!inside()) return false;
    names_.emplace_back();
    return names_.size() <= depth_;
  }
  bool end_array() override { return pop(); }
  bool parse_error(std::size_t /*position*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    return false;
  }

 private:
  bool inside() const { return !names_.empty(); }
  bool pop() {
    names_.pop_back();
    return true;
  }
  const std::size_t depth_;
  std::vector<std::set<std::string>> names_;
};

}  // namespace

bool is_strict_object(std::string_view text, const JsonLimits& limits) {
  // The parser skips a byte order mark; here an object starts with its brace.
  if (text.size() > limits.bytes || text.empty() || text.front() != '{') return false;
  NameCheck check(limits.depth);
  return Json::sax_parse(text.begin(), text.end(), &check);
}

}  // namespace keyagent
