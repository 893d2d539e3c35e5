// SPDX-License-Identifier: Apache-2.0
#pragma once
// The one exception of this library, and the two ways to check a return value.

#include <initializer_list>
#include <stdexcept>
#include <string>

#include "pkcs11/rv.h"

namespace keyagent::pkcs11 {

// A fault of token, module, session or call. The text is "C_Function: CKR_NAME (what it was for)";
// never a secret.
class Error : public std::runtime_error {
 public:
  enum class Kind {
    kRv,              // a call answered `rv()`
    kModule,          // the module cannot be loaded or initialized
    kTokenAbsent,     // no token with this serial and label
    kAmbiguousToken,  // more than one token with this serial and label
    kPinRefused,  // this PIN was refused before and has not changed since; nothing was sent to the
                  // token
    kPinLastTry,  // the token reports one try left; nothing was sent
    kPinLocked,   // the token has locked the PIN
    kBusy,        // the queue for a session is full
    kDeadline,    // no session became free within the deadline
    kStuck,       // calls into the module have not come back
    kObject,      // not exactly one object where one was asked for
    kOutput,  // the token answered OK with a result of impossible size or one that does not verify
    kFull,    // the token's disk has no room: nothing was called
    kExists,  // what was to be made is there already
    kUnsupported,  // the profile or token lacks what was asked for
    kProfile,      // a profile file is wrong
  };
  Error(Kind kind, const std::string& text, CK_RV rv = CKR_OK)
      : std::runtime_error(text), kind_(kind), rv_(rv) {}
  Kind kind() const { return kind_; }
  CK_RV rv() const { return rv_; }
  // rv_class(rv()) for kRv; kDevice for kModule and kTokenAbsent; kCapacity for kBusy,
  // kDeadline and kFull; kPin for the three PIN kinds; kCall otherwise.
  RvClass rv_class() const;

 private:
  Kind kind_;
  CK_RV rv_;
};

// Throws Error{kRv} unless rv is CKR_OK. `call` is the function's name, "C_Sign".
void check(CK_RV rv, const char* call);

// Returns rv when it is CKR_OK or one of the codes that the caller names, throws otherwise.
CK_RV check_expecting(CK_RV rv, const char* call, std::initializer_list<CK_RV> expected);

}  // namespace keyagent::pkcs11
