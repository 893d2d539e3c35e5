// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/local/openssl_conf.h"

#include <openssl/conf.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include <memory>

#include "agent/base/error.h"

namespace keyagent::cli {
namespace {

using Conf = std::unique_ptr<CONF, decltype(&NCONF_free)>;

Conf load_conf(const std::filesystem::path& file) {
  Conf conf(NCONF_new(nullptr), &NCONF_free);
  long line = 0;
  if (NCONF_load(conf.get(), file.c_str(), &line) != 1)
    throw Error(Code::kConfiguration, "OpenSSL cannot read " + file.string() + ", line " +
                                          std::to_string(line) +
                                          "; correct it, or set OPENSSL_CONF to another file");
  return conf;
}

// The section that `name` in `section` refers to, or `otherwise`, which is assigned in `added`.
std::string section_of(const CONF* conf, const std::string& section, const char* name,
                       const std::string& otherwise, std::string& added) {
  const char* named =
      conf == nullptr ? nullptr
                      : NCONF_get_string(conf, section.empty() ? nullptr : section.c_str(), name);
  if (named == nullptr) added += std::string(name) + " = " + otherwise + "\n";
  return named == nullptr ? otherwise : named;
}

}  // namespace

// OpenSSL joins sections of one name, so the host's are extended where it has them.
std::string openssl_conf(const std::filesystem::path& base, const std::filesystem::path& module,
                         const std::filesystem::path& socket) {
  const bool included = std::filesystem::exists(base);
  const Conf conf = included ? load_conf(base) : Conf(nullptr, &NCONF_free);
  std::string before, of_init, of_providers;
  const auto init = section_of(conf.get(), "", "openssl_conf", "keyagent_init", before);
  const auto providers = section_of(conf.get(), init, "providers", "keyagent_providers", of_init);
  const auto software =
      section_of(conf.get(), providers, "default", "keyagent_software", of_providers);
  ERR_clear_error();  // of sections that the host's file lacks
  return before + (included ? ".include " + base.string() + "\n" : "") + "[" + init + "]\n" +
         of_init + "[" + providers + "]\n" + of_providers + "keyagent = keyagent_agent\n[" +
         software + "]\nactivate = 1\n[keyagent_agent]\nmodule = " + module.string() +
         "\nkeyagent-socket = " + socket.string() + "\nactivate = 1\n";
}

std::filesystem::path openssl_conf_of_host() {
  char* name = CONF_get1_default_config_file();
  const std::filesystem::path file = name == nullptr ? "" : name;
  OPENSSL_free(name);
  return file;
}

}  // namespace keyagent::cli
