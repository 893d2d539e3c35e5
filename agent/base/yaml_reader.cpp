// SPDX-License-Identifier: Apache-2.0
#include "agent/base/yaml_reader.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <sstream>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/base/suggestion.h"

namespace keyagent {

struct YamlReader::Node {
  YAML::Node yaml;  // a mapping, or null for one that is absent
  std::string source;
  std::set<std::string> asked;
  std::vector<std::shared_ptr<Node>> opened;  // children, for finish()

  std::string place(const YAML::Node& at) const {
    const auto mark = at.Mark();
    return source + (mark.is_null() ? "" : ":" + std::to_string(mark.line + 1));
  }
  [[noreturn]] void fail(const YAML::Node& at, const std::string& text) const {
    throw Error(Code::kConfiguration, place(at) + ": " + text);
  }
};

namespace {

constexpr std::size_t kLargestFile = 1 << 20;

// Sees a file as it is written, before anything is built from it: anchors, tags and second
// documents are ways to write a file that reads differently than it looks, and a few nested aliases
// stand for more nodes than there is memory.
class PlainOnly final : public YAML::EventHandler {
 public:
  explicit PlainOnly(const std::string& source) : source_(source) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) fail(mark, "a file holds one document; remove the second '---'");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { check(mark, "", anchor); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override { check(mark, "", anchor); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string&) override {
    check(mark, tag, anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    enter(mark, tag, anchor);
  }
  void OnSequenceEnd() override { --depth_; }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    enter(mark, tag, anchor);
  }
  void OnMapEnd() override { --depth_; }

 private:
  static constexpr int kDeepest = 16;

  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& text) const {
    throw Error(Code::kConfiguration, source_ + ":" + std::to_string(mark.line + 1) + ": " + text);
  }
  void check(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) const {
    if (anchor != YAML::NullAnchor) fail(mark, "anchors and aliases are not supported");
    // "?" and "!" are what the parser itself gives to plain and quoted values.
    if (!tag.empty() && tag != "?" && tag != "!") fail(mark, "tags are not supported");
  }
  void enter(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    check(mark, tag, anchor);
    if (++depth_ > kDeepest) fail(mark, "nested too deeply");
  }

  const std::string& source_;
  int documents_ = 0, depth_ = 0;
};

void require_plain(const std::string& text, const std::string& source) {
  std::istringstream in(text);
  YAML::Parser parser(in);
  PlainOnly handler(source);
  while (parser.HandleNextDocument(handler)) {
  }
}

void require_unique_names(const YAML::Node& yaml, const std::string& source) {
  const auto fail = [&](const YAML::Node& at, const std::string& text) {
    throw Error(Code::kConfiguration,
                source + ":" + std::to_string(at.Mark().line + 1) + ": " + text);
  };
  if (yaml.IsSequence()) {
    for (const auto& item : yaml) require_unique_names(item, source);
  }
  if (!yaml.IsMap()) return;
  std::set<std::string> seen;
  for (const auto& entry : yaml) {
    if (!entry.first.IsScalar()) fail(entry.first, "a name must be a word");
    if (!seen.insert(entry.first.Scalar()).second)
      fail(entry.first, "'" + entry.first.Scalar() + "' is given twice");
    require_unique_names(entry.second, source);
  }
}

std::chrono::milliseconds unit_of(std::string_view unit) {
  if (unit == "ms") return std::chrono::milliseconds(1);
  if (unit == "s") return std::chrono::seconds(1);
  if (unit == "m") return std::chrono::minutes(1);
  if (unit == "h") return std::chrono::hours(1);
  if (unit == "d") return std::chrono::hours(24);
  return std::chrono::milliseconds(0);
}

}  // namespace

YamlReader YamlReader::from_file(const std::filesystem::path& path) {
  const Bytes content = read_trusted_file(path, kLargestFile);
  return from_text(as_text(content), path.string());
}

YamlReader YamlReader::from_text(std::string_view text, std::string source) {
  auto node = std::make_shared<Node>();
  node->source = std::move(source);
  if (text.size() > kLargestFile)
    throw Error(Code::kConfiguration, node->source + ": longer than 1 MiB");
  try {
    require_plain(std::string(text), node->source);
    node->yaml = YAML::Load(std::string(text));
  } catch (const YAML::Exception& error) {
    throw Error(Code::kConfiguration, node->source + ":" + std::to_string(error.mark.line + 1) +
                                          ": not YAML: " + error.msg);
  }
  if (!node->yaml.IsMap() && !node->yaml.IsNull())
    node->fail(node->yaml, "the file must be a mapping of names to values");
  require_unique_names(node->yaml, node->source);
  return YamlReader(node);
}

bool YamlReader::has(const std::string& name) const {
  node_->asked.insert(name);
  return node_->yaml.IsMap() && node_->yaml[name] && !node_->yaml[name].IsNull();
}

bool YamlReader::is_value(const std::string& name) const {
  return has(name) && node_->yaml[name].IsScalar();
}

std::string YamlReader::text(const std::string& name) const {
  if (!has(name)) node_->fail(node_->yaml, "'" + name + "' is missing");
  const YAML::Node value = node_->yaml[name];
  if (!value.IsScalar()) node_->fail(value, "'" + name + "' must be a string");
  return value.Scalar();
}

std::string YamlReader::text(const std::string& name, const std::string& otherwise) const {
  return has(name) ? text(name) : otherwise;
}

long YamlReader::integer(const std::string& name, long otherwise, long least, long most) const {
  if (!has(name)) return otherwise;
  const std::string written = text(name);
  const bool octal = written.size() > 1 && written[0] == '0';
  long value = 0;
  const char* first = written.data();
  const char* last = first + written.size();
  const auto parsed = std::from_chars(first, last, value, octal ? 8 : 10);
  if (parsed.ec != std::errc{} || parsed.ptr != last || value < least || value > most) {
    node_->fail(node_->yaml[name], "'" + name + "' must be a whole number from " +
                                       std::to_string(least) + " to " + std::to_string(most) +
                                       ", not '" + written + "'");
  }
  return value;
}

bool YamlReader::boolean(const std::string& name, bool otherwise) const {
  if (!has(name)) return otherwise;
  const std::string written = text(name);
  if (written == "true" || written == "yes") return true;
  if (written == "false" || written == "no") return false;
  node_->fail(node_->yaml[name], "'" + name + "' must be true or false, not '" + written + "'");
}

std::chrono::milliseconds YamlReader::duration(const std::string& name,
                                               std::chrono::milliseconds otherwise) const {
  if (!has(name)) return otherwise;
  const std::string written = text(name);
  long count = 0;
  const char* last = written.data() + written.size();
  const auto parsed = std::from_chars(written.data(), last, count);
  const auto unit =
      unit_of(std::string_view(parsed.ptr, static_cast<std::size_t>(last - parsed.ptr)));
  constexpr long kLongest = 36500;  // days
  if (parsed.ec != std::errc{} || unit.count() == 0 || count < 0 ||
      count > std::chrono::hours(24 * kLongest) / unit) {
    node_->fail(node_->yaml[name],
                "'" + name + "' must be a duration such as 250ms, 5s, 10m, 24h or 90d, not '" +
                    written + "'");
  }
  return unit * count;
}

std::vector<std::string> YamlReader::texts(const std::string& name) const {
  if (!has(name)) return {};
  const YAML::Node value = node_->yaml[name];
  if (value.IsScalar()) return {value.Scalar()};
  std::vector<std::string> out;
  if (!value.IsSequence())
    node_->fail(value, "'" + name + "' must be a string or a list of strings");
  for (const auto& item : value) {
    if (!item.IsScalar()) node_->fail(item, "'" + name + "' must be a list of strings");
    out.push_back(item.Scalar());
  }
  return out;
}

YamlReader YamlReader::child(const std::string& name) const {
  auto opened = std::make_shared<Node>();
  opened->source = node_->source;
  if (has(name)) {
    opened->yaml.reset(node_->yaml[name]);
    if (!opened->yaml.IsMap()) node_->fail(opened->yaml, "'" + name + "' must be a mapping");
  }
  node_->opened.push_back(opened);
  return YamlReader(opened);
}

std::vector<YamlReader> YamlReader::children(const std::string& name) const {
  std::vector<YamlReader> out;
  if (!has(name)) return out;
  const YAML::Node list = node_->yaml[name];
  if (!list.IsSequence()) node_->fail(list, "'" + name + "' must be a list");
  for (const auto& item : list) {
    if (!item.IsMap()) node_->fail(item, "each entry of '" + name + "' must be a mapping");
    auto opened = std::make_shared<Node>();
    opened->source = node_->source;
    opened->yaml.reset(YAML::Node(item));
    node_->opened.push_back(opened);
    out.push_back(YamlReader(opened));
  }
  return out;
}

std::vector<std::string> YamlReader::names() const {
  std::vector<std::string> out;
  if (!node_->yaml.IsMap()) return out;
  for (const auto& entry : node_->yaml) out.push_back(entry.first.Scalar());
  return out;
}

std::string YamlReader::where(const std::string& name) const {
  const bool named = !name.empty() && node_->yaml.IsMap() && node_->yaml[name];
  return node_->place(named ? YAML::Node(node_->yaml[name]) : node_->yaml);
}

void YamlReader::finish() const {
  if (node_->yaml.IsMap()) {
    for (const auto& entry : node_->yaml) {
      const std::string& name = entry.first.Scalar();
      if (!node_->asked.contains(name))
        node_->fail(entry.first, "unknown name '" + name + "'" + did_you_mean(name, node_->asked));
    }
  }
  for (const auto& opened : node_->opened) YamlReader(opened).finish();
}

}  // namespace keyagent
