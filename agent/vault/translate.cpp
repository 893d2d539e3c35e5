// SPDX-License-Identifier: Apache-2.0
#include "agent/vault/translate.h"

#include "pkcs11/error.h"

namespace keyagent::vault {
namespace {

using Kind = pkcs11::Error::Kind;
using pkcs11::RvClass;

Code code_of_rv(CK_RV rv) {
  switch (rv) {
    case CKR_DEVICE_MEMORY:
    case CKR_HOST_MEMORY:
      return Code::kTokenFull;
    case CKR_PIN_LOCKED:
      return Code::kPinLocked;
    case CKR_TOKEN_NOT_PRESENT:
    case CKR_TOKEN_NOT_RECOGNIZED:
    case CKR_DEVICE_REMOVED:
      return Code::kTokenAbsent;
    default:
      break;
  }
  switch (pkcs11::rv_class(rv)) {
    case RvClass::kInput:
      return Code::kInput;
    case RvClass::kPin:
      return Code::kPinRefused;
    case RvClass::kKey:
      return Code::kKeyLost;
    case RvClass::kCall:
      return Code::kUnsupported;
    default:
      return Code::kTokenFault;
  }
}

Code code_of(const pkcs11::Error& error) {
  switch (error.kind()) {
    case Kind::kRv:
      return code_of_rv(error.rv());
    case Kind::kModule:  // without a code the file itself is at fault
      return error.rv() == CKR_OK ? Code::kConfiguration : Code::kTokenFault;
    case Kind::kExists:
      return Code::kExists;
    case Kind::kFull:
      return Code::kTokenFull;
    case Kind::kTokenAbsent:
      return Code::kTokenAbsent;
    case Kind::kAmbiguousToken:
    case Kind::kProfile:
      return Code::kConfiguration;
    case Kind::kPinRefused:
      return Code::kPinRefused;
    case Kind::kPinLastTry:
    case Kind::kPinLocked:
      return Code::kPinLocked;
    case Kind::kBusy:
      return Code::kBusy;
    case Kind::kDeadline:
      return Code::kDeadline;
    case Kind::kStuck:
      return Code::kTokenStuck;
    case Kind::kObject:
      return Code::kKeyLost;
    case Kind::kOutput:
      return Code::kIntegrity;
    case Kind::kUnsupported:
      return Code::kUnsupported;
  }
  return Code::kInternal;
}

}  // namespace

Error translate(const std::exception& error, const std::string& kid) {
  if (const auto* ours = dynamic_cast<const Error*>(&error)) return *ours;
  if (const auto* token = dynamic_cast<const pkcs11::Error*>(&error)) {
    const bool gone = token->kind() == Kind::kObject && !kid.empty();
    return Error(code_of(*token),
                 (gone ? "KEY_NOT_PRESENT kid=" + kid + ": " : "token: ") + token->what(), kid);
  }
  return Error(Code::kInternal, std::string("vault: ") + error.what(), kid);
}

}  // namespace keyagent::vault
