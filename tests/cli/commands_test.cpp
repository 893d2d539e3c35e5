// SPDX-License-Identifier: Apache-2.0
// Command lines: what is suggested for a misspelled one, and that every command which a message, a
// help text or a document names exists.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/command.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

// By path ("", "key", "key create"): the commands below it, and its options.
struct CommandNode {
  std::set<std::string> commands, options;
};
using CommandTree = std::map<std::string, CommandNode>;

// The completion script is written from the program's own commands.
CommandTree read_commands() {
  CommandTree tree;
  std::istringstream script(run_command(KEYAGENT " completion bash"));
  const std::regex form("    '([^']*)'\\) words='([^']*)' ;;");
  std::smatch found;
  for (std::string line; std::getline(script, line);) {
    if (!std::regex_match(line, found, form)) continue;
    auto& node = tree[found[1]];
    std::istringstream words(found[2]);
    for (std::string word; words >> word;)
      (word.starts_with("--") ? node.options : node.commands).insert(word);
  }
  return tree;
}

bool has_option(const CommandTree& tree, std::string path, const std::string& option) {
  for (;;) {
    if (tree.at(path).options.contains(option)) return true;
    if (path.empty()) return false;
    const auto end = path.rfind(' ');
    path.resize(end == path.npos ? 0 : end);
  }
}

// What is wrong with the words after "keyagent"; empty: nothing. Ends at the first word with
// punctuation. What is neither a name nor an option ("KEY", "5f0c…") is an argument.
std::string fault_of(const CommandTree& tree, const std::string& text) {
  static const std::regex kName("[a-z][a-z-]*"), kOption("--[a-z][a-z-]*");
  std::istringstream words(text);
  std::string path;
  for (std::string word; words >> word;) {
    if (word == "--help" || word.find_first_of("&|<>#") == 0) break;
    const auto end = word.find_first_of("\\,.;:)`'\"([{|");
    if (end != word.npos) word.resize(end);
    const auto option = word.substr(0, word.find('='));
    const auto& below = tree.at(path).commands;
    if (std::regex_match(option, kOption)) {
      if (!has_option(tree, path, option)) return "'" + path + "' has no option " + option;
    } else if (!below.empty() && std::regex_match(word, kName)) {
      if (!below.contains(word)) return "'" + path + "' has no command " + word;
      path += (path.empty() ? "" : " ") + word;
    }
    if (end != word.npos) break;
  }
  return {};
}

// The string literals of a C++ source; adjacent ones are one.
std::vector<std::string> literals_of(const std::string& source) {
  std::vector<std::string> found;
  bool adjacent = false;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source.compare(i, 2, "//") == 0) {
      i = std::min(source.find('\n', i), source.size());
    } else if (source[i] == '\'') {
      i += source[i + 1] == '\\' ? 3 : 2;
    } else if (source[i] == '"') {
      std::string text;
      for (++i; i < source.size() && source[i] != '"'; ++i) {
        if (source[i] == '\\') ++i;
        text += source[i - 1] == '\\' && source[i] == 'n' ? '\n' : source[i];
      }
      if (adjacent) found.back() += text;
      if (!adjacent) found.push_back(text);
      adjacent = true;
    } else if (std::isspace(static_cast<unsigned char>(source[i])) == 0) {
      adjacent = false;
    }
  }
  return found;
}

std::string text_of_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Not commands, although they follow the program's name: of sentences and of signed statements.
const std::set<std::string> kProse{"again",  "challenge", "knows",   "ledger",
                                   "record", "store",     "support", "uses"};

void expect_commands(const CommandTree& tree, const fs::path& file, const std::string& text,
                     std::size_t& count) {
  static const std::regex kCall("(^|[^A-Za-z/._-])keyagent +((?:--[a-z]|[a-z])[^\\n]*)");
  for (std::sregex_iterator call(text.begin(), text.end(), kCall), end; call != end; ++call) {
    const std::string words = (*call)[2];
    if (kProse.contains(words.substr(0, words.find_first_not_of("abcdefghijklmnopqrstuvwxyz"))))
      continue;
    ++count;
    EXPECT_EQ(fault_of(tree, words), "") << file << ": keyagent " << words;
    // Further ones in the same line.
    expect_commands(tree, file, words, count);
  }
}

TEST(Commands, EveryCommandThatAMessageNamesExists) {
  const auto tree = read_commands();
  ASSERT_GT(tree.size(), 100u);
  std::size_t count = 0;
  for (const auto& entry : fs::recursive_directory_iterator(KEYAGENT_SOURCE "/agent")) {
    const auto extension = entry.path().extension();
    if (extension != ".cpp" && extension != ".h") continue;
    for (const auto& literal : literals_of(text_of_file(entry.path())))
      expect_commands(tree, entry.path(), literal, count);
  }
  EXPECT_GT(count, 250u) << "the messages are no longer read";
}

TEST(Commands, EveryCommandThatADocumentNamesExists) {
  const auto tree = read_commands();
  std::size_t count = 0;
  const std::regex code("`([^`\\n]+)`|\\n(?:sudo )?(keyagent [^\\n#]*)");
  for (const auto& entry : fs::recursive_directory_iterator(KEYAGENT_SOURCE)) {
    const auto& path = entry.path();
    const auto below = path.lexically_relative(KEYAGENT_SOURCE).string();
    const bool read = path.extension() == ".md" && below != "CHANGELOG.md" &&
                      !below.starts_with("build") && !below.starts_with("tests/");
    if (!read) continue;
    const auto text = text_of_file(path);
    for (std::sregex_iterator at(text.begin(), text.end(), code), end; at != end; ++at)
      expect_commands(tree, path, (*at)[1].matched ? (*at)[1].str() : (*at)[2].str(), count);
  }
  EXPECT_GT(count, 150u) << "the documents are no longer read";
}

TEST(Commands, TheReaderFindsWhatDoesNotExist) {
  const auto tree = read_commands();
  EXPECT_EQ(fault_of(tree, "key list --all"), "");
  EXPECT_EQ(fault_of(tree, "--json status | jq"), "");
  EXPECT_EQ(fault_of(tree, "key create NAME --purpose=sign)"), "");
  EXPECT_THAT(fault_of(tree, "key frobnicate"), HasSubstr("frobnicate"));
  EXPECT_THAT(fault_of(tree, "status --frobnicate"), HasSubstr("--frobnicate"));
  EXPECT_EQ(literals_of("f(\"a\"\n  \"b\", 'x', '\"', \"c\\\"\"); // \"d\"\n"),
            (std::vector<std::string>{"ab", "c\""}));
}

TEST(Commands, AMisspelledOptionGetsASuggestion) {
  const auto said = [](const std::string& words) {
    const auto result = try_command(KEYAGENT " " + words + " 2>&1");
    EXPECT_EQ(result.status, 2) << words << "\n" << result.output;
    return result.output;
  };
  EXPECT_THAT(said("audit tail --cuont 3"), HasSubstr("'--cuont'; did you mean '--count'?"));
  EXPECT_THAT(said("key create web --purpsoe=sign"), HasSubstr("did you mean '--purpose'?"));
  EXPECT_THAT(said("--jsno status"), HasSubstr("did you mean '--json'?"));
  EXPECT_THAT(said("status --jsno"), HasSubstr("did you mean '--json'?"))
      << "also after the command";
  EXPECT_THAT(said("instance events --cont 3"), HasSubstr("did you mean '--count'?"));
  EXPECT_THAT(said("status --frobnicate-everything"), Not(HasSubstr("did you mean")));
  EXPECT_THAT(said("key show web --reason --nonsense-here"), HasSubstr("'--reason'"));
  // A value is not an option.
  EXPECT_THAT(said("audit tail --folder --jsno --cuont 3"), Not(HasSubstr("'--jsno'")));
}

}  // namespace
}  // namespace keyagent::test
