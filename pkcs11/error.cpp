// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/error.h"

#include <algorithm>

namespace keyagent::pkcs11 {

RvClass Error::rv_class() const {
  switch (kind_) {
    case Kind::kRv:
      return pkcs11::rv_class(rv_);
    case Kind::kModule:
    case Kind::kTokenAbsent:
      return RvClass::kDevice;
    case Kind::kBusy:
    case Kind::kDeadline:
    case Kind::kFull:
      return RvClass::kCapacity;
    case Kind::kPinRefused:
    case Kind::kPinLastTry:
    case Kind::kPinLocked:
      return RvClass::kPin;
    default:
      return RvClass::kCall;
  }
}

void check(CK_RV rv, const char* call) {
  if (rv != CKR_OK) throw Error(Error::Kind::kRv, std::string(call) + ": " + rv_name(rv), rv);
}

CK_RV check_expecting(CK_RV rv, const char* call, std::initializer_list<CK_RV> expected) {
  if (std::find(expected.begin(), expected.end(), rv) == expected.end()) check(rv, call);
  return rv;
}

}  // namespace keyagent::pkcs11
