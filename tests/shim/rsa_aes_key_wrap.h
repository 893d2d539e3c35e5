// SPDX-License-Identifier: Apache-2.0
#pragma once
// CKM_RSA_AES_KEY_WRAP, as a token that has it would do it, for real modules that have its parts
// alone: PKCS #11 current mechanisms 3.0, §2.1.21.

#include <p11-kit/pkcs11.h>

namespace keyagent::shim {

inline constexpr CK_MECHANISM_TYPE kRsaAesKeyWrap = 0x1054;

// C_WrapKey and C_UnwrapKey of `real` under this mechanism.
CK_RV rsa_aes_wrap(CK_FUNCTION_LIST* real, CK_SESSION_HANDLE session, const CK_MECHANISM* mechanism,
                   CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key, CK_BYTE* out, CK_ULONG* size);
CK_RV rsa_aes_unwrap(CK_FUNCTION_LIST* real, CK_SESSION_HANDLE session,
                     const CK_MECHANISM* mechanism, CK_OBJECT_HANDLE unwrapping, CK_BYTE* wrapped,
                     CK_ULONG size, CK_ATTRIBUTE* wanted, CK_ULONG count, CK_OBJECT_HANDLE* key);

}  // namespace keyagent::shim
