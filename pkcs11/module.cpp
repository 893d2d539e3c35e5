// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/module.h"

#include <botan/hash.h>
#include <botan/hex.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>

#include "agent/base/mutex.h"
#include "pkcs11/error.h"
#include "pkcs11/process_state.h"

namespace keyagent::pkcs11 {
namespace {

[[noreturn]] void fail(const std::string& text, CK_RV rv = CKR_OK) {
  throw Error(Error::Kind::kModule, text, rv);
}

// Of a folder the group root may write too, and a sticky one (/tmp) is each entry's owner's.
bool written_by_others(const struct stat& info) {
  if (!S_ISDIR(info.st_mode)) return (info.st_mode & (S_IWGRP | S_IWOTH)) != 0;
  if ((info.st_mode & S_ISVTX) != 0) return false;
  return (info.st_mode & S_IWOTH) != 0 || ((info.st_mode & S_IWGRP) != 0 && info.st_gid != 0);
}

// A module runs with our privileges and sees the PIN: anyone who can write or exchange it owns the
// keys (CVE-2016-10009's lesson). REQUIRES: `path` has no symbolic links.
void require_trusted_file(const std::filesystem::path& path) {
  for (auto part = path;; part = part.parent_path()) {
    struct stat info {};
    const std::string which =
        part == path ? "module " + path.string()
                     : "module " + path.string() + " could be replaced: " + part.string();
    if (::lstat(part.c_str(), &info) != 0) fail("module " + path.string() + " does not exist");
    if (info.st_uid != 0 && info.st_uid != ::geteuid())
      fail(which + " belongs to uid " + std::to_string(info.st_uid) +
           "; it must belong to root or this user: chown root " + part.string());
    if (written_by_others(info))
      fail(which + " may be written by others: chmod go-w " + part.string());
    if (part == part.root_path()) return;
  }
}

std::filesystem::path choose(const Profile& profile) {
  for (const auto& candidate : profile.modules) {
    if (!candidate.is_absolute()) fail("module path " + candidate.string() + " is not absolute");
    std::error_code error;
    const auto real = std::filesystem::canonical(candidate, error);
    if (error) continue;
    require_trusted_file(real);
    return real;
  }
  std::string tried;
  for (const auto& candidate : profile.modules) tried += " " + candidate.string();
  fail("profile " + profile.name + ": module file not found (tried:" + tried + ")");
}

std::string hash_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const auto hash = Botan::HashFunction::create_or_throw("SHA-256");
  std::vector<char> block(65536);
  while (in.read(block.data(), static_cast<std::streamsize>(block.size())), in.gcount() > 0)
    hash->update(reinterpret_cast<const std::uint8_t*>(block.data()),
                 static_cast<std::size_t>(in.gcount()));
  return Botan::hex_encode(hash->final(), false);
}

// Grows in each child. A handler and not getpid(): it costs the calls of the parent nothing.
std::atomic<unsigned> forks{0};
void count_forks() {
  [[maybe_unused]] static const int registered =
      ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1); });
}

void set_environment(const Profile& profile, const std::filesystem::path& state_folder) {
  for (const auto& [name, pattern] : profile.environment)
    ::setenv(name.c_str(), with_state(pattern, state_folder).c_str(), 1);
}

Mutex registry_mutex;
std::map<std::filesystem::path, std::weak_ptr<Module>>& registry() REQUIRES(registry_mutex) {
  static auto* modules = new std::map<std::filesystem::path, std::weak_ptr<Module>>;
  return *modules;
}

}  // namespace

std::filesystem::path prepare_module(const Profile& profile,
                                     const std::filesystem::path& state_folder) {
  const auto path = choose(profile);
  std::signal(SIGPIPE, SIG_IGN);
  set_environment(profile, state_folder);
  return path;
}

std::shared_ptr<Module> Module::open(const Profile& profile,
                                     const std::filesystem::path& state_folder) {
  const auto path = choose(profile);
  const MutexLock lock(registry_mutex);
  auto& entry = registry()[path];
  if (auto module = entry.lock(); module && module->ours()) return module;
  prepare_module(profile, state_folder);
  std::shared_ptr<Module> module(new Module(profile, path));
  entry = module;
  return module;
}

Module::Module(const Profile& profile, std::filesystem::path path)
    : path_(std::move(path)),
      sha256_(hash_file(path_)),
      forks_((count_forks(), forks.load())),
      init_args_(profile.init_args),
      os_locking_(profile.os_locking),
      serialized_(profile.serialize || !profile.os_locking) {
  const ProcessState as_before;
  void* handle = ::dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) fail("module " + path_.string() + " does not load: " + ::dlerror());
  const auto get = reinterpret_cast<CK_C_GetFunctionList>(::dlsym(handle, "C_GetFunctionList"));
  if (get == nullptr) fail(path_.string() + " is not a PKCS#11 module (no C_GetFunctionList)");
  if (get(&functions_) != CKR_OK || functions_ == nullptr) {
    fail(path_.string() + ": C_GetFunctionList failed");
  }
}

Module::~Module() {
  if (initialized_ && ours()) functions_->C_Finalize(nullptr);
}

bool Module::ours() const {
  return forks.load(std::memory_order_relaxed) == forks_;
}

void Module::require_ours() const {
  if (!ours()) {
    fail(path_.string() +
         " was loaded by the parent of this process; a forked child must not use it");
  }
}

void Module::initialize() {
  const ProcessState as_before;
  CK_C_INITIALIZE_ARGS args{};
  args.flags = os_locking_ ? CKF_OS_LOCKING_OK : 0;
  // Mozilla's and some vendors' modules take a text here, which the standard reserves.
  args.pReserved = init_args_.empty() ? nullptr : const_cast<char*>(init_args_.c_str());
  CK_RV rv = functions_->C_Initialize(&args);
  if (rv == CKR_CANT_LOCK) {
    args.flags = 0;
    rv = functions_->C_Initialize(&args);
    if (rv == CKR_OK) serialized_ = true;
  }
  if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED) {
    fail(path_.string() + " is in use by another library of this process", rv);
  }
  if (rv != CKR_OK) fail(path_.string() + ": C_Initialize: " + rv_name(rv), rv);
  initialized_ = true;
  epoch_.fetch_add(1, std::memory_order_acq_rel);
}

Module::Entry Module::enter(TimePoint until) {
  require_ours();
  Entry entry(inside_, until);
  if (!entry.owns_lock()) {
    throw Error(Error::Kind::kStuck, path_.string() + " hangs while it is reloaded");
  }
  return entry;
}

Module::OneCall Module::one_call(TimePoint until) {
  if (!serialized()) return {};
  OneCall lock(one_call_, until);
  if (!lock.owns_lock()) {
    throw Error(Error::Kind::kStuck, "a call into " + path_.string() + " hangs");
  }
  return lock;
}

bool Module::reload(std::uint64_t seen, TimePoint until) {
  require_ours();
  if (epoch() != seen && initialized()) return true;
  if (!inside_.try_lock_until(until)) return false;
  const MutexLock alone(inside_, std::adopt_lock);
  if (epoch() != seen && initialized()) return true;
  if (initialized_.exchange(false)) functions_->C_Finalize(nullptr);
  initialize();
  return true;
}

}  // namespace keyagent::pkcs11
