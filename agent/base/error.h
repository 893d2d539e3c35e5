// SPDX-License-Identifier: Apache-2.0
#pragma once
// The one exception above the vault, and the table that gives each code its layer, wire name and
// exit code.

#include <stdexcept>
#include <string>
#include <string_view>

namespace keyagent {

// What went wrong. The numbers are wire values (agent/wire/keyagent.proto, ErrorCode): never reuse
// one.
enum class Code {
  kOk = 0,
  kUsage = 1,          // the request is malformed or asks for what does not exist as a verb
  kConfiguration = 2,  // a configuration, policy or profile file is wrong
  kUnsupported = 3,    // this token or build cannot do it; the text names the missing mechanism
  kDenied = 4,         // policy refuses; `keyagent why` names the rule
  kKeyState = 5,       // the key's state does not allow the operation
  kKeyNotPresent = 6,  // no key with this kid or name is in the ledger (KEY_NOT_PRESENT)
  kExists = 7,         // the name is taken by a key with other properties
  kConfirm = 8,        // the operation destroys something and was not confirmed
  kTokenFault = 9,     // the token answered with a fault; retryable
  kTokenAbsent = 10,   // no slot has the token now; retryable
  kTokenStuck = 11,    // a call into the module has not come back; retryable
  kTokenFull = 12,     // no room for another object
  kKeyLost = 13,       // the ledger has the key, the token does not
  kPinRefused = 14,    // the PIN was refused once and is not tried again until it changes
  kPinLocked = 15,     // the token has locked the PIN
  kBusy = 16,          // the bounded queue is full; retry after a pause
  kDeadline = 17,      // no answer within the deadline
  kPeer = 18,          // the other side (agent socket, instance) cannot be reached
  kInput = 19,         // every decryption failure returns this code, without details
  kIntegrity = 20,     // a signature, hash chain, ledger or identity does not verify
  kPartial = 21,       // partly done; the journal holds what is left
  kInternal = 22,      // a defect in keyagent
  // The other side of a TLS session is not who it must be (agent/tls).
  kPeerUntrusted = 23,      // its certificate leads to no root that this side trusts
  kPeerExpired = 24,        // its certificate has expired
  kPeerNotYetValid = 25,    // its certificate is not valid yet, or a clock is wrong
  kPeerPurpose = 26,        // its certificate is for another use (extended key usage)
  kPeerNoCertificate = 27,  // it showed no certificate
  kPeerName = 28,           // its certificate does not name this host
  kPeerKey = 29,            // its key is not the one that is expected
  kPeerRevoked = 30,        // its certificate was revoked
  kRefusedByPeer = 31,      // it refused this side; the text names its alert
};
constexpr Code kLastCode = Code::kRefusedByPeer;

// Where it went wrong.
enum class Layer { kCaller, kConfiguration, kPolicy, kKey, kToken, kPeer, kIntegrity, kAgent };

// Stable upper-case name, for example "KEY_NOT_PRESENT": what --json, the audit log and scripts
// see.
std::string_view code_name(Code code);
// The code of a name; nullopt-like: kInternal for an unknown name.
Code code_of_name(std::string_view name);
Layer layer_of(Code code);
std::string_view layer_name(Layer layer);
// MISSION.md: 0 done, 2 usage or configuration, 3 refused by state or policy, 4 token fault, 5 peer
// or network fault, 6 authenticity or integrity failure, 7 partly done. kInternal is 4: a restart
// may help, nothing else will.
int exit_code(Code code);
// True where the same request may be sent again unchanged and may then succeed.
bool retryable(Code code);

// A failure to report to the caller. The text is one line for a person: what failed, where, and
// what to do. Never put a secret into it: build it from names, paths, kids and codes only.
class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& text, std::string kid = {})
      : std::runtime_error(text), code_(code), kid_(std::move(kid)) {}

  Code code() const { return code_; }
  Layer layer() const { return layer_of(code_); }
  // The key concerned, or empty.
  const std::string& kid() const { return kid_; }

 private:
  Code code_;
  std::string kid_;
};

// The only text for a failed decryption, whatever the cause (RELIABILITY 103, 106).
[[noreturn]] void throw_input_error();

}  // namespace keyagent
