# SPDX-License-Identifier: Apache-2.0
MUTANTS = [
    ("oaep-alone", "agent/openssl/asym_cipher.cpp", "  if (!cipher.oaep) refuse_padding();\n", "", "e2e_test", "Fault101_Pkcs1|ProviderDecrypt"),
    ("mask-of-oaep", "agent/openssl/asym_cipher.cpp", "if (cipher.mask_hash.value_or(cipher.hash) != cipher.hash)", "if (false)", "e2e_test",
     "ProviderDecrypt"),
    ("salt-of-pss", "agent/openssl/signature.cpp", "if (size >= 0 && static_cast<std::size_t>(size) != digest_size(digest))", "if (false)",
     "e2e_test", "Provider.T12_OpensslSigns"),
    ("curve-of-the-peer", "agent/openssl/exchange.cpp", "if (theirs.group != ours.group || theirs.point.size() != ours.point.size())", "if (false)",
     "e2e_test", "ProviderDecrypt.T12_OpensslDerives|ProviderDecrypt"),
    ("public-half-is-not-changed", "agent/openssl/keymgmt.cpp",
     "if (key.has_private() || OSSL_PARAM_get_octet_string_ptr(point, &bytes, &size) == 0)", "if (false)", "e2e_test", "ProviderDecrypt|Loaded"),
    ("messages-of-a-signature-are-bounded", "agent/openssl/signature.cpp", "if (signing.message.size() + size > kMaxMessage)", "if (false)",
     "e2e_test", "Fault098_AnAuthKey|Provider.T12"),
]
