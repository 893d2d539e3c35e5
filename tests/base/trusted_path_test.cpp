// SPDX-License-Identifier: Apache-2.0
// RELIABILITY 162: who could replace a file that decides.

#include "agent/base/trusted_path.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "tests/support/temp_folder.h"

namespace keyagent {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr uid_t kStranger = 65534;

class TrustedFile : public testing::Test {
 protected:
  TrustedFile() {
    std::filesystem::create_directories(at("a/b"));
    ::chmod(at("a").c_str(), 0755);
    ::chmod(at("a/b").c_str(), 0755);
    replace_file(at("a/b/file"), as_bytes("x"), 0600);
  }
  std::filesystem::path at(const std::string& name) const { return folder_.path() / name; }
  // What the two readers and the check before another opener say; "" when they take it.
  std::string refusal(const std::string& name) const {
    std::string said;
    const auto path = at(name);
    for (const std::function<void()>& use :
         {std::function<void()>([&] { read_trusted_file(path); }),
          std::function<void()>([&] { read_secret_file(path); }),
          std::function<void()>([&] { require_trusted(path); })}) {
      std::string now;
      try {
        use();
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::kConfiguration);
        now = error.what();
      }
      if (said.empty()) said = now;
      EXPECT_EQ(said.empty(), now.empty()) << name << ": " << now << " or " << said;
    }
    return said;
  }
  void mode(const std::string& name, mode_t bits) const {
    ASSERT_EQ(::chmod(at(name).c_str(), bits), 0);
  }
  void give(const std::string& name, uid_t uid) const {
    ASSERT_EQ(::lchown(at(name).c_str(), uid, static_cast<gid_t>(-1)), 0);
  }
  const test::TempFolder folder_;
};

TEST_F(TrustedFile, Fault162_IsTakenInFoldersOfItsOwner) {
  EXPECT_EQ(refusal("a/b/file"), "");
  EXPECT_EQ(refusal("a/../a/./b//file"), "");
  const auto walked = walk_path(at("a/b/file"), ::geteuid());
  EXPECT_EQ(walked.path, std::filesystem::canonical(at("a/b/file")));
  EXPECT_THAT(walked.faults, IsEmpty());
  EXPECT_FALSE(walk_path(at("a/b/none"), ::geteuid()).file.valid());
  EXPECT_THROW(walk_path(at("none/file"), ::geteuid()), Error);
}

TEST_F(TrustedFile, Fault162_EveryParentFolderIsChecked) {
  for (const std::string name : {"a", "a/b"}) {
    for (const mode_t loose : {0777U, 0757U}) {
      mode(name, loose);
      EXPECT_THAT(refusal("a/b/file"), AllOf(HasSubstr("may be written by others"),
                                             HasSubstr("chmod go-w " + at(name).string())));
    }
    mode(name, 01777);
    EXPECT_EQ(refusal("a/b/file"), "") << "sticky, as /tmp: each entry is its owner's";
    mode(name, 0755);
  }
}

TEST_F(TrustedFile, Fault162_GroupMayWriteAFolderOnlyWhenItIsRoot) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  mode("a", 0775);
  EXPECT_EQ(refusal("a/b/file"), "");
  ASSERT_EQ(::chown(at("a").c_str(), 0, 50), 0);
  mode("a", 0775);
  EXPECT_THAT(refusal("a/b/file"), HasSubstr("chmod go-w " + at("a").string()));
}

TEST_F(TrustedFile, Fault162_FoldersOfAnotherUserAreRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  for (const std::string name : {"a", "a/b"}) {
    give(name, kStranger);
    EXPECT_THAT(refusal("a/b/file"), AllOf(HasSubstr("belongs to uid 65534"),
                                           HasSubstr("chown 0 " + at(name).string())));
    mode(name, 01777);
    EXPECT_THAT(refusal("a/b/file"), HasSubstr("belongs to uid 65534")) << "its sticky bit too";
    mode(name, 0755);
    EXPECT_THAT(walk_path(at("a/b/file"), kStranger).faults, IsEmpty()) << "it is the agent's user";
    give(name, 0);
  }
}

TEST_F(TrustedFile, Fault162_TheFolderOfALinkDecidesWhatItNames) {
  std::filesystem::create_directories(at("open"));
  std::filesystem::create_symlink(at("a/b/file"), at("open/link"));
  std::filesystem::create_symlink("../open", at("a/way"));
  EXPECT_EQ(as_text(read_trusted_file(at("a/way/link"))), "x");
  mode("open", 0777);
  for (const std::string name : {"open/link", "a/way/link"}) {
    EXPECT_THROW(read_trusted_file(at(name)), Error);
    EXPECT_THROW(require_trusted(at(name)), Error);
    EXPECT_THAT(walk_path(at(name), ::geteuid()).faults, SizeIs(1));
  }
  mode("open", 01777);
  EXPECT_NO_THROW(read_trusted_file(at("open/link")));
  if (::geteuid() != 0) return;
  give("open/link", kStranger);  // in a sticky folder the link itself is what counts
  EXPECT_THROW(read_trusted_file(at("open/link")), Error);
}

TEST_F(TrustedFile, LinksWithoutEndAreRefused) {
  std::filesystem::create_symlink(at("two"), at("one"));
  std::filesystem::create_symlink(at("one"), at("two"));
  EXPECT_THROW(walk_path(at("one"), ::geteuid()), Error);
}

}  // namespace
}  // namespace keyagent
