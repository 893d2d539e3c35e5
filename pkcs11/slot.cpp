// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/slot.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "pkcs11/error.h"

namespace keyagent::pkcs11 {
namespace {

std::string describe(const TokenSelector& selector) {
  std::string text;
  if (!selector.label.empty()) text += " label '" + selector.label + "'";
  if (!selector.serial.empty()) text += " serial '" + selector.serial + "'";
  return text;
}

// More than any machine has: a count beyond it is a broken module's, and no size to allocate
// (RELIABILITY 52).
constexpr CK_ULONG kMaxSlots = 4096;

std::vector<CK_SLOT_ID> slots_with_tokens(CK_FUNCTION_LIST& c) {
  for (;;) {
    CK_ULONG count = 0;
    check(c.C_GetSlotList(CK_TRUE, nullptr, &count), "C_GetSlotList");
    if (count > kMaxSlots) throw Error(Error::Kind::kOutput, "C_GetSlotList: invalid count");
    std::vector<CK_SLOT_ID> slots(count);
    if (count == 0) return slots;
    // The list may grow between the two calls.
    const CK_RV rv = c.C_GetSlotList(CK_TRUE, slots.data(), &count);
    if (check_expecting(rv, "C_GetSlotList", {CKR_BUFFER_TOO_SMALL}) == CKR_OK) {
      slots.resize(std::min<CK_ULONG>(count, slots.size()));
      return slots;
    }
  }
}

}  // namespace

SlotMatch find_slot(CK_FUNCTION_LIST& functions, const TokenSelector& selector) {
  std::optional<SlotMatch> match;
  for (const CK_SLOT_ID slot : slots_with_tokens(functions)) {
    SlotMatch candidate{slot, {}};
    if (functions.C_GetTokenInfo(slot, &candidate.info) != CKR_OK) continue;
    if ((candidate.info.flags & CKF_TOKEN_INITIALIZED) == 0) continue;
    if (!selector.label.empty() && padded_text(candidate.info.label) != selector.label) continue;
    if (!selector.serial.empty() && padded_text(candidate.info.serialNumber) != selector.serial)
      continue;
    if (match) {
      throw Error(Error::Kind::kAmbiguousToken,
                  "two tokens have" + describe(selector) + "; add the serial");
    }
    match = candidate;
  }
  if (!match) throw Error(Error::Kind::kTokenAbsent, "no token has" + describe(selector));
  return *match;
}

}  // namespace keyagent::pkcs11
