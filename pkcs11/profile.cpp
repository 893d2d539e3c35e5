// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/profile.h"

#include <p11-kit/pkcs11.h>
#include <yaml-cpp/yaml.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>

#include "pkcs11/error.h"

namespace keyagent::pkcs11 {
namespace {

constexpr std::size_t kLargestProfile = 64 * 1024;

// Reads one document: each field is read once, and unread (unknown) fields are refused.
class Reader {
 public:
  Reader(const YAML::Node& root, std::string name) : root_(root), name_(std::move(name)) {
    if (!root_.IsMap()) fail(root_, "a profile must be a mapping of fields");
  }

  [[noreturn]] void fail(const YAML::Node& at, const std::string& text) const {
    throw Error(Error::Kind::kProfile,
                name_ + ":" + std::to_string(at.Mark().line + 1) + ": " + text);
  }

  template <class Value>
  void read(const char* field, Value& out) {
    const YAML::Node node = take(field);
    if (!node) return;
    try {
      out = node.as<Value>();
    } catch (const YAML::Exception&) {
      fail(node, std::string("'") + field + "' has a value of the wrong type");
    }
  }

  void read_count(const char* field, std::size_t& out, std::size_t least, std::size_t most) {
    long value = static_cast<long>(out);
    read(field, value);
    if (value < static_cast<long>(least) || value > static_cast<long>(most)) {
      fail(root_[field], std::string("'") + field + "' must be from " + std::to_string(least) +
                             " to " + std::to_string(most));
    }
    out = static_cast<std::size_t>(value);
  }

  void read_milliseconds(const char* field, std::chrono::milliseconds& out, long least, long most) {
    auto value = static_cast<std::size_t>(out.count());
    read_count(field, value, static_cast<std::size_t>(least), static_cast<std::size_t>(most));
    out = std::chrono::milliseconds(value);
  }

  void read_oaep(const char* field, OaepPath& out) {
    std::string text;
    read(field, text);
    if (text.empty()) return;
    if (text == "native") {
      out = OaepPath::kNative;
    } else if (text == "raw") {
      out = OaepPath::kRawInToken;
    } else if (text == "unsupported") {
      out = OaepPath::kUnsupported;
    } else {
      fail(root_[field], std::string("'") + field + "' must be native, raw or unsupported");
    }
  }

  // A mechanism without authentication, CBC for one, would let anyone who changes what was wrapped
  // learn of the key.
  void read_kwp(const char* field, unsigned long& out) {
    const YAML::Node node = take(field);
    if (!node) return;
    constexpr unsigned long kNone = 0,
                            kKwp = 0x210B;  // PKCS #11 3.0; SoftHSM's: CKM_AES_KEY_WRAP_PAD
    if (!YAML::convert<unsigned long>::decode(node, out) ||
        (out != kNone && out != kKwp && out != CKM_AES_KEY_WRAP_PAD && out < CKM_VENDOR_DEFINED))
      fail(node, std::string("'") + field +
                     "' must be the number of a mechanism that wraps as in RFC 5649: 0x210B, "
                     "0x210A, a vendor's own, or 0 for none");
  }

  std::vector<std::string> read_texts(const char* field) {
    std::vector<std::string> texts;
    read(field, texts);
    return texts;
  }

  std::map<std::string, std::string> read_map(const char* field) {
    std::map<std::string, std::string> map;
    read(field, map);
    return map;
  }

  YAML::Node at(const char* field) const { return root_[field] ? root_[field] : root_; }

  void finish() const {
    for (const auto& entry : root_) {
      const auto field = entry.first.as<std::string>();
      if (!asked_.contains(field))
        fail(entry.first, "unknown field '" + field + "' (hsm-profiles(5) lists all)");
    }
  }

 private:
  YAML::Node take(const char* field) {
    asked_.insert(field);
    return root_[field];
  }

  YAML::Node root_;
  std::string name_;
  std::set<std::string> asked_;
};

void read_modules(Reader& reader, Profile& profile) {
  for (const auto& text : reader.read_texts("modules")) {
    const std::filesystem::path path(text);
    if (!path.is_absolute())
      reader.fail(reader.at("modules"), "module path '" + text + "' is not absolute");
    profile.modules.push_back(path);
  }
  if (profile.modules.empty()) reader.fail(reader.at("modules"), "'modules' lists no module file");
}

void read_algorithms(Reader& reader, Profile& profile) {
  static const std::set<std::string> kKnown = {"rsa-2048", "rsa-3072", "rsa-4096", "ec-p256",
                                               "ec-p384",  "ed25519",  "aes-256"};
  for (const auto& text : reader.read_texts("algorithms")) {
    if (!kKnown.contains(text))
      reader.fail(reader.at("algorithms"), "unknown algorithm '" + text + "'");
    profile.algorithms.insert(text);
  }
  if (profile.algorithms.empty())
    reader.fail(reader.at("algorithms"), "'algorithms' is empty: the token could not create keys");
}

void read_operation(Reader& reader, Profile& profile) {
  reader.read("init-args", profile.init_args);
  profile.environment = reader.read_map("environment");
  reader.read("os-locking", profile.os_locking);
  reader.read("token-folder", profile.token_folder);
  reader.read_count("sessions", profile.sessions, 1, 1024);
  reader.read("serialise", profile.serialize);
  reader.read_milliseconds("deadline-ms", profile.deadline, 10, 600000);
  reader.read_milliseconds("keep-alive-ms", profile.keep_alive, 0, 86400000);
  reader.read_count("queue", profile.queue, 1, 65536);
}

void read_objects(Reader& reader, Profile& profile) {
  reader.read("modifiable-false", profile.modifiable_false);
  reader.read("unwrap-modifiable-false", profile.unwrap_modifiable_false);
  reader.read("copyable-false", profile.copyable_false);
  reader.read("reload-after-destroy", profile.reload_after_destroy);
  reader.read("deny-usages", profile.deny_usages);
  reader.read("always-sensitive", profile.always_sensitive);
  reader.read("allowed-mechanisms", profile.allowed_mechanisms);
  reader.read("session-copies", profile.session_copies);
  reader.read("data-objects", profile.data_objects);
  reader.read("pin-flags", profile.pin_flags);
  reader.read("unlock-hint", profile.unlock_hint);
  reader.read("fault-hint", profile.fault_hint);
}

void read_mechanisms(Reader& reader, Profile& profile) {
  read_algorithms(reader, profile);
  reader.read_oaep("oaep-sha1", profile.oaep_sha1);
  reader.read_oaep("oaep-sha256", profile.oaep_sha256);
  reader.read("pss", profile.pss);
  reader.read("ecdh", profile.ecdh);
  reader.read("aes-gcm", profile.aes_gcm);
  reader.read("aes-key-wrap", profile.aes_key_wrap);
  reader.read_kwp("aes-kwp-mechanism", profile.aes_kwp_mechanism);
  reader.read("rsa-aes-key-wrap", profile.rsa_aes_key_wrap);
  reader.read("verify-ecdsa", profile.verify_signatures);  // its name in 0.1.0
  reader.read("verify-signatures", profile.verify_signatures);
}

}  // namespace

std::string with_state(std::string pattern, const std::filesystem::path& state_folder) {
  const std::string variable = "${state}";
  for (auto at = pattern.find(variable); at != std::string::npos;
       at = pattern.find(variable, at + state_folder.string().size())) {
    pattern.replace(at, variable.size(), state_folder.string());
  }
  return pattern;
}

Profile parse_profile(std::string_view yaml, const std::string& name) {
  if (yaml.size() > kLargestProfile)
    throw Error(Error::Kind::kProfile, name + ": longer than 64 KiB");
  YAML::Node root;
  try {
    root = YAML::Load(std::string(yaml));
  } catch (const YAML::Exception& error) {
    throw Error(Error::Kind::kProfile,
                name + ":" + std::to_string(error.mark.line + 1) + ": not YAML: " + error.msg);
  }
  Reader reader(root, name);
  Profile profile;
  profile.name = name;
  reader.read("description", profile.description);
  reader.read("tested", profile.tested);
  read_modules(reader, profile);
  read_operation(reader, profile);
  read_objects(reader, profile);
  read_mechanisms(reader, profile);
  profile.sources = reader.read_map("sources");
  reader.finish();
  if (profile.description.empty())
    reader.fail(reader.at("description"), "'description' is missing");
  return profile;
}

Profile load_profile(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error(Error::Kind::kProfile, "profile " + path.string() + " cannot be read");
  std::string text(kLargestProfile + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  return parse_profile(text, path.stem().string());
}

}  // namespace keyagent::pkcs11
