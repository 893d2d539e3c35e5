// SPDX-License-Identifier: Apache-2.0
#pragma once
// Every CK_RV: its name, and its meaning for the caller. Classified only here (DESIGN decision 10).

#include <p11-kit/pkcs11.h>

#include <string>

namespace keyagent::pkcs11 {

enum class RvClass {
  kOk,
  kInput,      // the caller's bytes: bad ciphertext, bad signature, wrong length
  kSession,    // this session is closed or unusable; a new one may work (also OPERATION_ACTIVE)
  kDevice,     // token, device or library is gone; the recovery ladder decides
  kAmbiguous,  // GENERAL_ERROR, FUNCTION_FAILED and their like: bad input or dead token, a canary
               // decides
  kCapacity,   // sessions or memory are used up
  kLogin,      // not logged in
  kPin,        // refused, locked, expired, not initialized: never retried automatically
  kKey,        // handle or type of a key or object does not fit
  kCall,       // our own mistake or a mechanism that the token lacks
};

// "CKR_GENERAL_ERROR"; vendor and unknown codes as "CKR_0x80000384".
std::string rv_name(CK_RV rv);
// Vendor and unknown codes are kAmbiguous.
RvClass rv_class(CK_RV rv);

}  // namespace keyagent::pkcs11
