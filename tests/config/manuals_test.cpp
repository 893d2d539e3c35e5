// SPDX-License-Identifier: Apache-2.0
// The manuals of files name what the program reads, and their examples are accepted.

#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "agent/policy/policy.h"
#include "pkcs11/profile.h"

namespace keyagent {
namespace {

std::string contents(const std::string& path) {
  std::ifstream in(std::string(KEYAGENT_SOURCE "/") + path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::set<std::string> all_of(const std::string& text, const std::string& pattern) {
  std::set<std::string> found;
  const std::regex expression(pattern);
  for (std::sregex_iterator each(text.begin(), text.end(), expression), end; each != end; ++each)
    found.insert((*each)[1]);
  return found;
}

// Names in the heads of a list: ".It Cm allow , Cm deny".
std::set<std::string> listed(const std::string& page, const std::string& macro) {
  std::set<std::string> found;
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(".It ")) continue;
    const auto names = all_of(line, macro + " ([a-z0-9-]+)");
    found.insert(names.begin(), names.end());
  }
  return found;
}

std::string example_in(const std::string& page) {
  const std::string begin = ".Bd -literal\n";
  const auto at = page.rfind(begin) + begin.size();
  return page.substr(at, page.find(".Ed\n", at) - at);
}

void expect_clean_page(const std::string& path) {
  EXPECT_EQ(std::system(("mandoc -T lint -W warning " KEYAGENT_SOURCE "/" + path).c_str()), 0);
}

TEST(Manuals, OfThePolicyHasEveryActionAndField) {
  const char* path = "agent/policy/man/policy.yml.5";
  const auto page = contents(path), reader = contents("agent/policy/policy_file.cpp");
  expect_clean_page(path);
  EXPECT_EQ(listed(page, "Ic"), all_of(policy::action_names(), "([a-z]+)"));
  auto read = all_of(reader, "(?:reader|who)\\.\\w+\\(\"([a-z]+)\"");
  read.merge(all_of(reader, "names_in\\(reader, \"([a-z]+)\"\\)"));
  read.erase("rules");
  EXPECT_EQ(listed(page, "Cm"), read);
  EXPECT_EQ(policy::parse_policy(example_in(page), "example")->rules.size(), 3U);
}

TEST(Manuals, OfProfilesHasEveryField) {
  const char* path = "hsm-profiles/man/hsm-profiles.5";
  const auto page = contents(path);
  expect_clean_page(path);
  const auto fields = listed(page, "Ic");
  EXPECT_EQ(fields, all_of(contents("pkcs11/profile.cpp"), "reader\\.read\\w*\\(\"([a-z0-9-]+)\""));
  std::set<std::string> of_schema;
  const auto schema = nlohmann::json::parse(contents("hsm-profiles/schema.json"));
  for (const auto& [name, definition] : schema.at("properties").items()) of_schema.insert(name);
  EXPECT_EQ(fields, of_schema);
  EXPECT_EQ(pkcs11::parse_profile(example_in(page), "example").modules.size(), 1U);
}

}  // namespace
}  // namespace keyagent
