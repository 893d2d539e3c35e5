// SPDX-License-Identifier: Apache-2.0
// RELIABILITY 176: one rule for PINs, passwords and tokens, applied before any of them is used.

#include "agent/base/secret_text.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "tests/support/temp_folder.h"

namespace keyagent {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

using namespace std::string_literals;

SecretBytes secret(const std::string& text) {
  return {text.begin(), text.end()};
}

std::string refusal(const std::string& text) {
  try {
    secret_text(secret(text), "the PIN");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kConfiguration);
    EXPECT_THAT(error.what(), Not(HasSubstr("1234")));
    return error.what();
  }
  return "taken";
}

// A rotation writes a new file and renames it. A reader gets one file or the other, never a part.
TEST(SecretText, Fault035_AFileThatIsReplacedMeanwhileIsReadAsOneOrTheOther) {
  const test::TempFolder folder;
  const auto path = folder.path() / "pin", next = folder.path() / "next";
  const auto put = [](const std::filesystem::path& file, const std::string& text) {
    std::filesystem::remove(file);
    std::ofstream(file) << text << "\n";
    std::filesystem::permissions(file, std::filesystem::perms(0400));
  };
  const std::string one(3000, '1'), other = "2222";
  put(path, one);
  std::atomic<bool> done{false};
  std::thread rotation([&] {
    for (int i = 0; !done; ++i) {
      put(next, i % 2 == 0 ? other : one);
      std::filesystem::rename(next, path);
    }
  });
  for (int i = 0; i < 2000; ++i) {
    const auto read = read_secret_text(path, "the PIN");
    EXPECT_TRUE(read == secret(one) || read == secret(other)) << read.size() << " bytes";
  }
  done = true;
  rotation.join();
}

TEST(SecretText, Fault176_OneFinalLineEndIsStripped) {
  for (const auto& text : {"1234"s, "1234\n"s, "1234\r\n"s})
    EXPECT_EQ(secret_text(secret(text), "the PIN"), secret("1234"));
  EXPECT_EQ(secret_text(secret("a long pass phrase, ü\n"), "the PIN"),
            secret("a long pass phrase, ü"))
      << "blanks inside and UTF-8 are its own";
}

TEST(SecretText, Fault176_MalformedTextIsRefusedWithTheReason) {
  const std::pair<std::string, const char*> kForms[] = {{"", "empty"},
                                                        {"\n", "empty"},
                                                        {"1234\n\n", "line end"},
                                                        {"1234\r\n\r\n", "line end"},
                                                        {"1234\nabcd", "more than one line"},
                                                        {"1234\r", "carriage return"},
                                                        {"12\r34\n", "carriage return"},
                                                        {"\xef\xbb\xbf"
                                                         "1234\n",
                                                         "byte order mark"},
                                                        {"\xff\xfe"
                                                         "1\0002\0003\0004\000"s,
                                                         "UTF-16"},
                                                        {"\xfe\xff\0001\0002"s, "UTF-16"},
                                                        {"1\0002\0003\000"s, "UTF-16"},
                                                        {" 1234", "white space"},
                                                        {"1234 \n", "white space"},
                                                        {"1234\t\n", "white space"},
                                                        {"12\t34", "control character"},
                                                        {"12\x1b[34", "control character"}};
  for (const auto& [text, why] : kForms) EXPECT_THAT(refusal(text), HasSubstr(why)) << text;
}

TEST(SecretText, Fault176_FilesAndPipesHaveTheSameRule) {
  const test::TempFolder folder;
  const auto path = folder.path() / "pin";
  replace_file(path, as_bytes("1234\r\n"), 0400);
  EXPECT_EQ(read_secret_text(path, "the PIN"), secret("1234"));
  replace_file(path, as_bytes("1234 \n"), 0400);
  try {
    read_secret_text(path, "the PIN");
    FAIL() << "taken";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("the PIN in " + path.string()), HasSubstr("white space")));
  }
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const Fd read(ends[0]);
  Fd write(ends[1]);
  const std::string text = "1234\r\nabcd\n" + std::string(5000, 'x');
  ASSERT_EQ(::write(write.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  write = Fd();
  EXPECT_EQ(read_secret_line(read.get(), "the PIN"), secret("1234"));
  EXPECT_EQ(read_secret_line(read.get(), "the PIN"), secret("abcd")) << "the second line is left";
  EXPECT_THROW(read_secret_line(read.get(), "the PIN"), Error) << "longer than any: never cut";
}

}  // namespace
}  // namespace keyagent
