// SPDX-License-Identifier: Apache-2.0
#include "tests/support/shim_control.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace keyagent::test::shim {
namespace {

template <class Function>
Function symbol(const char* name) {
  // The same file is the same library: this is the instance that the module loader has.
  static void* handle = ::dlopen(KEYAGENT_SHIM, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) throw std::runtime_error(::dlerror());
  return reinterpret_cast<Function>(::dlsym(handle, name));
}

}  // namespace

pkcs11::Profile in_front_of(pkcs11::Profile profile) {
  const auto real = std::find_if(profile.modules.begin(), profile.modules.end(),
                                 [](const auto& path) { return std::filesystem::exists(path); });
  if (real == profile.modules.end())
    throw std::runtime_error("no module of the profile " + profile.name + " is installed");
  ::setenv("KEYAGENT_SHIM_REAL", real->c_str(), 1);
  profile.modules = {KEYAGENT_SHIM};
  return profile;
}

void set_faults(const std::string& rules) {
  if (symbol<int (*)(const char*)>("keyagent_shim_set")(rules.c_str()) != 0)
    throw std::invalid_argument("bad shim rules: " + rules);
}

void clear() {
  set_faults("");
}

std::uint64_t count(const std::string& function) {
  return symbol<unsigned long (*)(const char*)>("keyagent_shim_count")(function.c_str());
}

long sessions() {
  return symbol<long (*)()>("keyagent_shim_sessions")();
}

void reset_counts() {
  symbol<void (*)()>("keyagent_shim_reset")();
}

void release_hangs() {
  symbol<void (*)()>("keyagent_shim_release")();
}

}  // namespace keyagent::test::shim
