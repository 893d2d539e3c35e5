// SPDX-License-Identifier: Apache-2.0
#include "tests/shim/rsa_aes_key_wrap.h"

namespace keyagent::shim {
namespace {

constexpr CK_MECHANISM_TYPE kAesKeyWrapPad = 0x210A;

// CK_RSA_AES_KEY_WRAP_PARAMS.
struct Params {
  CK_ULONG ulAESKeyBits;
  CK_RSA_PKCS_OAEP_PARAMS* pOAEPParams;
};

CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
CK_OBJECT_CLASS secret_key = CKO_SECRET_KEY;
CK_KEY_TYPE aes = CKK_AES;

const Params* params_of(const CK_MECHANISM* mechanism) {
  const auto* params = static_cast<const Params*>(mechanism->pParameter);
  if (params == nullptr || mechanism->ulParameterLen != sizeof(Params) ||
      params->pOAEPParams == nullptr)
    return nullptr;
  const auto bits = params->ulAESKeyBits;
  return bits == 128 || bits == 192 || bits == 256 ? params : nullptr;
}

CK_MECHANISM oaep(const Params& params) {
  return {CKM_RSA_PKCS_OAEP, params.pOAEPParams, sizeof *params.pOAEPParams};
}

}  // namespace

CK_RV rsa_aes_wrap(CK_FUNCTION_LIST* real, CK_SESSION_HANDLE session, const CK_MECHANISM* mechanism,
                   CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key, CK_BYTE* out, CK_ULONG* size) {
  const Params* params = params_of(mechanism);
  if (params == nullptr) return CKR_MECHANISM_PARAM_INVALID;
  CK_ULONG bytes = params->ulAESKeyBits / 8;
  CK_ATTRIBUTE wanted[] = {{CKA_TOKEN, &no, sizeof no},
                           {CKA_WRAP, &yes, sizeof yes},
                           {CKA_EXTRACTABLE, &yes, sizeof yes},
                           {CKA_VALUE_LEN, &bytes, sizeof bytes}};
  CK_MECHANISM generate{CKM_AES_KEY_GEN, nullptr, 0}, outer = oaep(*params),
                                                      inner{kAesKeyWrapPad, nullptr, 0};
  CK_OBJECT_HANDLE one_time = 0;
  CK_RV rv = real->C_GenerateKey(session, &generate, wanted, 4, &one_time);
  if (rv != CKR_OK) return rv;
  CK_ULONG first = 0, second = 0;
  rv = real->C_WrapKey(session, &outer, wrapping, one_time, nullptr, &first);
  if (rv == CKR_OK) rv = real->C_WrapKey(session, &inner, one_time, key, nullptr, &second);
  const bool fits = out != nullptr && *size >= first + second;
  if (rv == CKR_OK && out != nullptr && !fits) rv = CKR_BUFFER_TOO_SMALL;
  if (rv == CKR_OK && fits) rv = real->C_WrapKey(session, &outer, wrapping, one_time, out, &first);
  if (rv == CKR_OK && fits)
    rv = real->C_WrapKey(session, &inner, one_time, key, out + first, &second);
  real->C_DestroyObject(session, one_time);
  *size = first + second;
  return rv;
}

CK_RV rsa_aes_unwrap(CK_FUNCTION_LIST* real, CK_SESSION_HANDLE session,
                     const CK_MECHANISM* mechanism, CK_OBJECT_HANDLE unwrapping, CK_BYTE* wrapped,
                     CK_ULONG size, CK_ATTRIBUTE* wanted, CK_ULONG count, CK_OBJECT_HANDLE* key) {
  const Params* params = params_of(mechanism);
  if (params == nullptr) return CKR_MECHANISM_PARAM_INVALID;
  CK_ATTRIBUTE modulus{CKA_MODULUS, nullptr, 0};
  CK_RV rv = real->C_GetAttributeValue(session, unwrapping, &modulus, 1);
  if (rv != CKR_OK) return rv;
  if (size <= modulus.ulValueLen) return CKR_WRAPPED_KEY_LEN_RANGE;
  CK_ATTRIBUTE of_one_time[] = {{CKA_CLASS, &secret_key, sizeof secret_key},
                                {CKA_KEY_TYPE, &aes, sizeof aes},
                                {CKA_TOKEN, &no, sizeof no},
                                {CKA_UNWRAP, &yes, sizeof yes}};
  CK_MECHANISM outer = oaep(*params), inner{kAesKeyWrapPad, nullptr, 0};
  CK_OBJECT_HANDLE one_time = 0;
  rv = real->C_UnwrapKey(session, &outer, unwrapping, wrapped, modulus.ulValueLen, of_one_time, 4,
                         &one_time);
  if (rv != CKR_OK) return rv;
  rv = real->C_UnwrapKey(session, &inner, one_time, wrapped + modulus.ulValueLen,
                         size - modulus.ulValueLen, wanted, count, key);
  real->C_DestroyObject(session, one_time);
  return rv;
}

}  // namespace keyagent::shim
