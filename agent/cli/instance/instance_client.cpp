// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/instance/instance_client.h"

#include <cstdlib>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/base/leftovers.h"
#include "agent/base/wiping.h"

namespace keyagent::cli {
namespace {

// People log in with a session: no key of the agent is used.
class NoKeys final : public openssl::Backend {
 public:
  PublicKeyInfo find(const std::string&) override { refuse(); }
  PublicKeyInfo find_by_id(const Bytes&) override { refuse(); }
  Bytes sign(const Kid&, SignatureAlgorithm, ByteView) override { refuse(); }
  Bytes sign_message(const Kid&, SignatureAlgorithm, ByteView) override { refuse(); }
  PublicKeyInfo create(const std::string&, KeyAlgorithm, const std::string&) override { refuse(); }

 private:
  [[noreturn]] static void refuse() {
    throw Error(Code::kUnsupported, "the connection to an instance uses no client key");
  }
};

tls::ClientOptions options_of(const InstanceProfile& profile) {
  tls::ClientOptions options;
  options.url = profile.url;
  options.trust.anchor_spki_sha256 = profile.fingerprint;
  return options;
}

}  // namespace

std::filesystem::path instance_profile_path(const std::string& given) {
  if (!given.empty()) return given;
  if (const char* folder = std::getenv("XDG_CONFIG_HOME"); folder != nullptr && *folder == '/')
    return std::filesystem::path(folder) / "keyagent/instance.json";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home != '/')
    throw Error(Code::kUsage, "HOME is not set; name the login file: --profile FILE");
  return std::filesystem::path(home) / ".config/keyagent/instance.json";
}

InstanceProfile load_instance_profile(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path))
    throw Error(Code::kUsage, "not logged in; run: keyagent instance login (" + path.string() +
                                  " does not exist)");
  const SecretBytes text = read_secret_file(path, 16384);
  const Json parsed = Json::parse(text.begin(), text.end(), nullptr, false);
  if (!parsed.is_object())
    throw Error(Code::kConfiguration,
                path.string() + " is damaged; log in again: keyagent instance login");
  const auto field = [&](const char* name) {
    return parsed.contains(name) && parsed[name].is_string() ? parsed[name].get<std::string>()
                                                             : std::string();
  };
  return {field("url"), field("fingerprint"), field("user"), field("session")};
}

void save_instance_profile(const std::filesystem::path& path, const InstanceProfile& profile) {
  make_private_folder(path.parent_path());
  // Another one may be saving now.
  remove_leftovers(path.parent_path(), path.filename().string(), std::chrono::hours(1));
  const Json text{{"url", profile.url},
                  {"fingerprint", profile.fingerprint},
                  {"user", profile.user},
                  {"session", profile.session}};
  replace_file(path, as_bytes(text.dump(2) + "\n"));
}

InstanceClient::InstanceClient(InstanceProfile profile)
    : profile_(std::move(profile)),
      client_(std::make_shared<tls::Library>(std::make_shared<NoKeys>()), options_of(profile_)) {}

std::string InstanceClient::call_text(const std::string& method, const std::string& target) {
  return client_.call(method, target, {}, {{"authorization", "Bearer " + profile_.session}}).body;
}

Json InstanceClient::call(const std::string& method, const std::string& target, const Json& body) {
  std::map<std::string, std::string> headers;
  if (!profile_.session.empty()) headers["authorization"] = "Bearer " + profile_.session;
  std::string text = body.is_null() ? std::string() : body.dump();
  const Wiping wiping(text);
  auto response = client_.call(method, target, text, headers);
  const Wiping wiping_answer(response.body);
  Json parsed = Json::parse(response.body, nullptr, false);
  if (parsed.is_discarded()) throw Error(Code::kPeer, "the instance's response is not JSON");
  return parsed;
}

std::string path_segment(const std::string& text) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const unsigned char c : text) {
    const bool plain = std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_' || c == '~';
    if (plain) {
      out += static_cast<char>(c);
    } else {
      out += '%';
      out += kDigits[c >> 4];
      out += kDigits[c & 15];
    }
  }
  return out;
}

}  // namespace keyagent::cli
