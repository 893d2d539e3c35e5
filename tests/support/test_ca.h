// SPDX-License-Identifier: Apache-2.0
#pragma once
// A certification authority with a key in this process's memory, for tests of trust.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/bytes.h"
#include "agent/base/clock.h"

namespace keyagent::test {

class TestCa {
 public:
  struct Wish {
    std::string subject = "test";                    // common name
    std::string san = "IP:127.0.0.1,DNS:localhost";  // as openssl.cnf has it; empty: none
    std::string eku = "serverAuth,clientAuth";       // empty: none
    WallTime not_before = std::chrono::system_clock::now() - std::chrono::hours(1);
    WallTime not_after = std::chrono::system_clock::now() + std::chrono::hours(24);
  };

  explicit TestCa(const std::string& name = "test root");
  ~TestCa();
  TestCa(const TestCa&) = delete;

  Bytes root() const;                                  // DER
  Bytes issue(ByteView spki, const Wish& wish) const;  // DER
  Bytes revoke(const std::vector<Bytes>& certificates,
               WallTime next_update = std::chrono::system_clock::now() +
                                      std::chrono::hours(24)) const;  // a CRL, DER
  std::string spki_sha256() const;                                    // base64url, of the root

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A key in memory for programs of others: its SPKI, and PKCS#8 as PEM.
struct SoftwareKey {
  Bytes spki;
  std::string pem;
};
SoftwareKey make_software_key();
std::string certificate_pem(ByteView der);

}  // namespace keyagent::test
