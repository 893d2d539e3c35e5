// SPDX-License-Identifier: Apache-2.0
#pragma once
// The instance's certification authority: its key is in the token of the instance's host.

#include <memory>
#include <optional>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/mutex.h"
#include "agent/instance/ca/external_ca.h"
#include "agent/instance/common/config.h"
#include "agent/instance/common/host_keys.h"
#include "agent/instance/common/recorder.h"
#include "agent/store/enroll_rows.h"
#include "agent/store/store.h"
#include "agent/tls/tls.h"

namespace keyagent::instance {

// Thread-safe. Certificates are in the store before anybody has them.
class Authority {
 public:
  // Where the store has the certificate.
  static constexpr const char* kSetting = "ca-certificate";

  Authority(const InstanceConfig& config, HostKeys& keys, store::Store& store, Recorder& recorder,
            const Clock& clock);

  // Makes the CA certificate once in the life of an instance, or takes the outside one. Throws
  // Error{kIntegrity} when the one that is there is for another key than the host's agent has.
  void bring_up();

  const Bytes& certificate() const { return certificate_; }
  std::string certificate_pem() const { return pki::certificate_pem(certificate_); }
  // SHA-256 of its SubjectPublicKeyInfo, base64url: what agents pin.
  std::string fingerprint() const;

  // PEM chain, leaf first, for the key of the request `csr` (PEM, verified before). nullopt: an
  // external CA has to certify it first. Whether the agent is trusted with this key, and within its
  // budget, is decided where the certificate is entered: Error{kKeyState}, Error{kBusy}.
  std::optional<std::string> certify_agent(const std::string& agent, ByteView spki,
                                           const std::string& csr);
  // The same for an enrollment that was proved (its challenge's id): the certificate that it has,
  // and one the first time. Throws Error{kDenied} when that one was revoked.
  std::optional<std::string> certify_enrolled(const std::string& agent, ByteView spki,
                                              const std::string& csr,
                                              const std::string& enrollment);
  // The state of an enrollment that has its certificate.
  static constexpr const char* kCertified = "certified";
  // For the active key: issued again for a new key, or when a third of its life is left; with an
  // external CA read from its file.
  tls::Identity server_identity();
  // Throws Error{kUsage} when this instance uses its built-in CA.
  ExternalCa& outside();
  tls::Trust agents_trust();
  std::string crl_pem();
  // All of the agent's certificates that still run.
  void revoke(const std::string& agent, const std::string& reason);

 private:
  store::Certificate sign(const HostKeys::Certified& certified, const std::string& agent,
                          const std::string& kid);
  store::Certificate sign_for_agent(const std::string& agent, ByteView spki);
  store::IssueOutcome enter(const store::Certificate& certificate,
                            const store::Challenge* challenge = nullptr);
  std::string chain_of(const store::Certificate& certificate) const;
  pki::Validity valid_for(std::chrono::milliseconds life) const;
  Bytes current_crl();

  const InstanceConfig& config_;
  HostKeys& keys_;
  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
  std::unique_ptr<ExternalCa> outside_;
  Bytes certificate_;  // constant after bring_up()
  Mutex mutex_;
  Bytes crl_ GUARDED_BY(mutex_);
  WallTime crl_made_ GUARDED_BY(mutex_);
  std::string crl_mark_ GUARDED_BY(mutex_);  // store::Certificates::revocation_mark()
};

// "DNS:keys.example.org", "IP:192.0.2.1": what the instance's certificate names.
std::vector<std::string> server_names(const InstanceConfig& config);

}  // namespace keyagent::instance
