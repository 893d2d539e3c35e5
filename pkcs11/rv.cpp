// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/rv.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace keyagent::pkcs11 {
namespace {

struct Entry {
  CK_RV rv;
  const char* name;
  RvClass rv_class;
};

// PKCS#11 v3.0 §5.1, in the order of their numbers. CKR_GENERAL_ERROR and its like are ambiguous
// because SoftHSM answers 0x5 to a forged ciphertext and tpm2-pkcs11 answers 0x5 when its TPM is
// gone (both measured).
constexpr Entry kTable[] = {
    {0x00, "CKR_OK", RvClass::kOk},
    {0x01, "CKR_CANCEL", RvClass::kSession},
    {0x02, "CKR_HOST_MEMORY", RvClass::kCapacity},
    {0x03, "CKR_SLOT_ID_INVALID", RvClass::kDevice},
    {0x05, "CKR_GENERAL_ERROR", RvClass::kAmbiguous},
    {0x06, "CKR_FUNCTION_FAILED", RvClass::kAmbiguous},
    {0x07, "CKR_ARGUMENTS_BAD", RvClass::kCall},
    {0x08, "CKR_NO_EVENT", RvClass::kCall},
    {0x09, "CKR_NEED_TO_CREATE_THREADS", RvClass::kCall},
    {0x0A, "CKR_CANT_LOCK", RvClass::kCall},
    {0x10, "CKR_ATTRIBUTE_READ_ONLY", RvClass::kCall},
    {0x11, "CKR_ATTRIBUTE_SENSITIVE", RvClass::kCall},
    {0x12, "CKR_ATTRIBUTE_TYPE_INVALID", RvClass::kCall},
    {0x13, "CKR_ATTRIBUTE_VALUE_INVALID", RvClass::kCall},
    {0x1B, "CKR_ACTION_PROHIBITED", RvClass::kCall},
    {0x20, "CKR_DATA_INVALID", RvClass::kInput},
    {0x21, "CKR_DATA_LEN_RANGE", RvClass::kInput},
    {0x30, "CKR_DEVICE_ERROR", RvClass::kDevice},
    {0x31, "CKR_DEVICE_MEMORY", RvClass::kCapacity},
    {0x32, "CKR_DEVICE_REMOVED", RvClass::kDevice},
    {0x40, "CKR_ENCRYPTED_DATA_INVALID", RvClass::kInput},
    {0x41, "CKR_ENCRYPTED_DATA_LEN_RANGE", RvClass::kInput},
    {0x50, "CKR_FUNCTION_CANCELED", RvClass::kSession},
    {0x51, "CKR_FUNCTION_NOT_PARALLEL", RvClass::kCall},
    {0x54, "CKR_FUNCTION_NOT_SUPPORTED", RvClass::kCall},
    {0x60, "CKR_KEY_HANDLE_INVALID", RvClass::kSession},
    {0x62, "CKR_KEY_SIZE_RANGE", RvClass::kCall},
    {0x63, "CKR_KEY_TYPE_INCONSISTENT", RvClass::kKey},
    {0x64, "CKR_KEY_NOT_NEEDED", RvClass::kCall},
    {0x65, "CKR_KEY_CHANGED", RvClass::kKey},
    {0x66, "CKR_KEY_NEEDED", RvClass::kCall},
    {0x67, "CKR_KEY_INDIGESTIBLE", RvClass::kKey},
    {0x68, "CKR_KEY_FUNCTION_NOT_PERMITTED", RvClass::kKey},
    {0x69, "CKR_KEY_NOT_WRAPPABLE", RvClass::kKey},
    {0x6A, "CKR_KEY_UNEXTRACTABLE", RvClass::kKey},
    {0x70, "CKR_MECHANISM_INVALID", RvClass::kCall},
    {0x71, "CKR_MECHANISM_PARAM_INVALID", RvClass::kCall},
    {0x82, "CKR_OBJECT_HANDLE_INVALID", RvClass::kSession},
    {0x90, "CKR_OPERATION_ACTIVE", RvClass::kSession},
    {0x91, "CKR_OPERATION_NOT_INITIALIZED", RvClass::kSession},
    {0xA0, "CKR_PIN_INCORRECT", RvClass::kPin},
    {0xA1, "CKR_PIN_INVALID", RvClass::kPin},
    {0xA2, "CKR_PIN_LEN_RANGE", RvClass::kPin},
    {0xA3, "CKR_PIN_EXPIRED", RvClass::kPin},
    {0xA4, "CKR_PIN_LOCKED", RvClass::kPin},
    {0xB0, "CKR_SESSION_CLOSED", RvClass::kSession},
    {0xB1, "CKR_SESSION_COUNT", RvClass::kCapacity},
    {0xB3, "CKR_SESSION_HANDLE_INVALID", RvClass::kSession},
    {0xB4, "CKR_SESSION_PARALLEL_NOT_SUPPORTED", RvClass::kCall},
    {0xB5, "CKR_SESSION_READ_ONLY", RvClass::kCall},
    {0xB6, "CKR_SESSION_EXISTS", RvClass::kCall},
    {0xB7, "CKR_SESSION_READ_ONLY_EXISTS", RvClass::kCall},
    {0xB8, "CKR_SESSION_READ_WRITE_SO_EXISTS", RvClass::kPin},
    {0xC0, "CKR_SIGNATURE_INVALID", RvClass::kInput},
    {0xC1, "CKR_SIGNATURE_LEN_RANGE", RvClass::kInput},
    {0xD0, "CKR_TEMPLATE_INCOMPLETE", RvClass::kCall},
    {0xD1, "CKR_TEMPLATE_INCONSISTENT", RvClass::kCall},
    {0xE0, "CKR_TOKEN_NOT_PRESENT", RvClass::kDevice},
    {0xE1, "CKR_TOKEN_NOT_RECOGNIZED", RvClass::kDevice},
    {0xE2, "CKR_TOKEN_WRITE_PROTECTED", RvClass::kCall},
    {0xF0, "CKR_UNWRAPPING_KEY_HANDLE_INVALID", RvClass::kSession},
    {0xF1, "CKR_UNWRAPPING_KEY_SIZE_RANGE", RvClass::kKey},
    {0xF2, "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT", RvClass::kKey},
    {0x100, "CKR_USER_ALREADY_LOGGED_IN", RvClass::kLogin},
    {0x101, "CKR_USER_NOT_LOGGED_IN", RvClass::kLogin},
    {0x102, "CKR_USER_PIN_NOT_INITIALIZED", RvClass::kPin},
    {0x103, "CKR_USER_TYPE_INVALID", RvClass::kCall},
    {0x104, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN", RvClass::kPin},
    {0x105, "CKR_USER_TOO_MANY_TYPES", RvClass::kPin},
    {0x110, "CKR_WRAPPED_KEY_INVALID", RvClass::kInput},
    {0x112, "CKR_WRAPPED_KEY_LEN_RANGE", RvClass::kInput},
    {0x113, "CKR_WRAPPING_KEY_HANDLE_INVALID", RvClass::kSession},
    {0x114, "CKR_WRAPPING_KEY_SIZE_RANGE", RvClass::kKey},
    {0x115, "CKR_WRAPPING_KEY_TYPE_INCONSISTENT", RvClass::kKey},
    {0x120, "CKR_RANDOM_SEED_NOT_SUPPORTED", RvClass::kCall},
    {0x121, "CKR_RANDOM_NO_RNG", RvClass::kCall},
    {0x130, "CKR_DOMAIN_PARAMS_INVALID", RvClass::kCall},
    {0x140, "CKR_CURVE_NOT_SUPPORTED", RvClass::kCall},
    {0x150, "CKR_BUFFER_TOO_SMALL", RvClass::kSession},
    {0x160, "CKR_SAVED_STATE_INVALID", RvClass::kCall},
    {0x170, "CKR_INFORMATION_SENSITIVE", RvClass::kCall},
    {0x180, "CKR_STATE_UNSAVEABLE", RvClass::kCall},
    {0x190, "CKR_CRYPTOKI_NOT_INITIALIZED", RvClass::kDevice},
    {0x191, "CKR_CRYPTOKI_ALREADY_INITIALIZED", RvClass::kDevice},
    {0x1A0, "CKR_MUTEX_BAD", RvClass::kDevice},
    {0x1A1, "CKR_MUTEX_NOT_LOCKED", RvClass::kDevice},
    {0x200, "CKR_FUNCTION_REJECTED", RvClass::kCall},
};

const Entry* find_entry(CK_RV rv) {
  const auto* found =
      std::lower_bound(std::begin(kTable), std::end(kTable), rv,
                       [](const Entry& entry, CK_RV wanted) { return entry.rv < wanted; });
  return found != std::end(kTable) && found->rv == rv ? found : nullptr;
}

}  // namespace

std::string rv_name(CK_RV rv) {
  const Entry* entry = find_entry(rv);
  return entry != nullptr ? entry->name : fmt::format("CKR_0x{:08X}", rv);
}

RvClass rv_class(CK_RV rv) {
  const Entry* entry = find_entry(rv);
  return entry != nullptr ? entry->rv_class : RvClass::kAmbiguous;
}

}  // namespace keyagent::pkcs11
