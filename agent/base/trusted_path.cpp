// SPDX-License-Identifier: Apache-2.0
#include "agent/base/trusted_path.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <system_error>
#include <utility>

#include "agent/base/error.h"

namespace keyagent {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxLinks = 40;  // as the kernel

std::string mode_text(const struct stat& status) {
  return fmt::format("{:04o}", status.st_mode & 07777U);
}

bool trusted_owner(const struct stat& status, uid_t user) {
  return status.st_uid == 0 || status.st_uid == user;
}

PathFault make_fault(const FindingKind& kind, const fs::path& path, const std::string& text,
                     FixValues values) {
  auto cure = fix_of(kind, values);
  return {path, text, std::move(cure.text), &kind, std::move(cure.commands)};
}

PathFault owner_fault(const fs::path& path, const struct stat& status, uid_t user) {
  return make_fault(
      finding_kind("file-owner"), path,
      fmt::format("belongs to uid {}, who could change it: the owner must be root or the user "
                  "that relies on it",
                  status.st_uid),
      {{"link", S_ISLNK(status.st_mode) ? "-h " : ""},
       {"uid", std::to_string(user)},
       {"path", path.string()}});
}

PathFault mode_fault(const fs::path& path, const struct stat& status) {
  return make_fault(finding_kind("file-mode"), path,
                    "may be written by others (mode " + mode_text(status) + ")",
                    {{"path", path.string()}});
}

class Walk {
 public:
  Walk(const fs::path& path, uid_t user) : asked_(path), user_(user) {
    const fs::path absolute = fs::absolute(path);
    push(absolute);
    enter(Fd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)), "/");
    // A link in the place of the file itself.
    last_is_file_ = !absolute.filename().empty();
  }

  TrustedPath run() {
    while (!left_.empty()) step();
    TrustedPath out;
    if (name_.empty()) {  // a folder that was entered: "/", "/srv/", "/srv/x/.."
      out.path = folders_.back().second;
      out.file = std::move(folders_.back().first);
      folders_.pop_back();
      if (folders_.empty()) enter(Fd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)), "/");
    } else {
      out.path = folders_.back().second / name_;
      out.file = std::move(file_);
    }
    out.name = name_;
    out.folder = std::move(folders_.back().first);
    out.faults = std::move(faults_);
    out.through_link = through_link_;
    return out;
  }

 private:
  [[noreturn]] void fail(const fs::path& at, int code) const {
    throw Error(Code::kConfiguration, fmt::format("cannot read {}: {}{}", asked_.string(),
                                                  at == asked_ ? "" : at.string() + ": ",
                                                  std::generic_category().message(code)));
  }

  // The components of `path`, to be walked before what is left.
  void push(const fs::path& path) {
    std::vector<std::string> parts;
    for (const auto& each : path.relative_path()) parts.push_back(each.string());
    left_.insert(left_.end(), parts.rbegin(), parts.rend());
  }

  void enter(Fd folder, const fs::path& path) {
    struct stat status {};
    if (!folder.valid() || ::fstat(folder.get(), &status) != 0) fail(path, errno);
    judge_folder(path, status);
    folders_.emplace_back(std::move(folder), path);
  }

  void judge_folder(const fs::path& path, const struct stat& status) {
    if (!trusted_owner(status, user_)) add(owner_fault(path, status, user_));
    const bool sticky = (status.st_mode & S_ISVTX) != 0;
    const bool group = (status.st_mode & S_IWGRP) != 0 && status.st_gid != 0;
    if (!sticky && (group || (status.st_mode & S_IWOTH) != 0)) add(mode_fault(path, status));
  }

  // A folder that is passed twice, by a link, has its faults once.
  void add(PathFault fault) {
    for (const auto& each : faults_) {
      if (each.where == fault.where && each.text == fault.text) return;
    }
    faults_.push_back(std::move(fault));
  }

  void step() {
    const std::string part = std::move(left_.back());
    left_.pop_back();
    if (part.empty() || part == ".") return;
    if (part == "..") {
      if (folders_.size() > 1) folders_.pop_back();
      return;
    }
    const fs::path path = folders_.back().second / part;
    Fd found(::openat(folders_.back().first.get(), part.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    const bool last = left_.empty();
    if (!found.valid()) {
      if (!last || errno != ENOENT) fail(path, errno);
      name_ = part;
      return;
    }
    struct stat status {};
    if (::fstat(found.get(), &status) != 0) fail(path, errno);
    if (S_ISLNK(status.st_mode)) return follow(found, path, status);
    if (last && last_is_file_) {
      name_ = part;
      file_ = std::move(found);
      return;
    }
    if (!S_ISDIR(status.st_mode)) fail(path, ENOTDIR);
    enter(std::move(found), path);
  }

  void follow(const Fd& link, const fs::path& path, const struct stat& status) {
    if (++links_ > kMaxLinks) fail(path, ELOOP);
    if (!trusted_owner(status, user_)) add(owner_fault(path, status, user_));
    if (left_.empty() && last_is_file_) through_link_ = true;
    std::array<char, PATH_MAX> target{};
    const ssize_t size = ::readlinkat(link.get(), "", target.data(), target.size() - 1);
    if (size <= 0) fail(path, size < 0 ? errno : ENOENT);
    const fs::path to(std::string(target.data(), static_cast<std::size_t>(size)));
    if (to.is_absolute()) folders_.erase(folders_.begin() + 1, folders_.end());
    push(to);
  }

  const fs::path asked_;
  const uid_t user_;
  bool last_is_file_ = true;
  std::vector<std::string> left_;                 // the next one last
  std::vector<std::pair<Fd, fs::path>> folders_;  // from "/" to where the walk is
  std::string name_;
  Fd file_;
  std::vector<PathFault> faults_;
  int links_ = 0;
  bool through_link_ = false;
};

}  // namespace

std::string PathFault::line() const {
  return where.string() + " " + text + ": " + cure;
}

TrustedPath walk_path(const fs::path& path, uid_t user) {
  return Walk(path, user).run();
}

std::vector<PathFault> file_faults(const fs::path& path, const struct stat& status, uid_t user) {
  std::vector<PathFault> faults;
  if (!trusted_owner(status, user)) faults.push_back(owner_fault(path, status, user));
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) faults.push_back(mode_fault(path, status));
  return faults;
}

void require_trusted(const fs::path& path) {
  const auto walked = walk_path(path, ::geteuid());
  struct stat status {};
  if (!walked.file.valid() || ::fstat(walked.file.get(), &status) != 0)
    throw Error(Code::kConfiguration, "cannot read " + path.string() + ": it does not exist");
  auto faults = walked.faults;
  const auto own = file_faults(walked.path, status, ::geteuid());
  faults.insert(faults.end(), own.begin(), own.end());
  if (!faults.empty()) throw Error(Code::kConfiguration, faults.front().line());
}

}  // namespace keyagent
