// SPDX-License-Identifier: Apache-2.0
#pragma once
// A person's session with an instance: where it is, who it is, and the secret that it gave at
// login, in a file that only this user may read.

#include <memory>
#include <string>

#include "agent/cli/cli.h"
#include "agent/tls/client.h"

namespace keyagent::cli {

struct InstanceProfile {
  std::string url;          // "https://host:8443"
  std::string fingerprint;  // SHA-256 of the CA's SubjectPublicKeyInfo, base64url
  std::string user;
  std::string session;  // the bearer secret; empty: logged out
};

// $XDG_CONFIG_HOME/keyagent/instance.json, or ~/.config/…; `given` instead where it is not empty.
std::filesystem::path instance_profile_path(const std::string& given);
InstanceProfile load_instance_profile(const std::filesystem::path& path);
void save_instance_profile(const std::filesystem::path& path, const InstanceProfile& profile);

// Not thread-safe. Accepts the server only if its chain ends in the pinned CA.
class InstanceClient {
 public:
  explicit InstanceClient(InstanceProfile profile);
  // Throws Error: the instance's error, kPeer, and the errors of certificate verification.
  Json call(const std::string& method, const std::string& target, const Json& body = nullptr);
  std::string call_text(const std::string& method, const std::string& target);

 private:
  InstanceProfile profile_;
  tls::Client client_;
};

// "a b/c" as a segment of a path.
std::string path_segment(const std::string& text);

}  // namespace keyagent::cli
