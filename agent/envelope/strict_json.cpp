#include "agent/envelope/strict_json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace keyagent::envelope {

namespace {

using Json = nlohmann::json;

// Lets nothing through but notes names: the parser itself would keep the last of two equal ones
// silently.
class NameCheck : public nlohmann::json_sax<Json> {
 public:
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
    return names_.size() <= kMaxJsonDepth;
  }
  bool key(string_t& name) override { return names_.back().insert(name).second; }
  bool end_object() override { return pop(); }
  bool start_array(std::size_t /*count*/) override {
    if (!inside()) return false;
    names_.emplace_back();
    return names_.size() <= kMaxJsonDepth;
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
  std::vector<std::set<std::string>> names_;
};

}  // namespace

std::optional<Json> parse_strict_object(std::string_view text) {
  // The parser skips a byte order mark; here an object starts with its brace.
  if (text.size() > kMaxJson || text.empty() || text.front() != '{') return std::nullopt;
  NameCheck check;
  if (!Json::sax_parse(text.begin(), text.end(), &check)) return std::nullopt;
  Json object = Json::parse(text.begin(), text.end(), nullptr, false);
  if (!object.is_object()) return std::nullopt;
  return object;
}

std::optional<std::string> text_member(const Json& object, const char* name) {
  const auto it = object.find(name);
  if (it == object.end() || !it->is_string()) return std::nullopt;
  return it->get<std::string>();
}

}  // namespace keyagent::envelope
