// SPDX-License-Identifier: Apache-2.0
#pragma once
// What is known of a kind of token before it is asked: hsm-profiles/*.yml as an immutable value.
//
// A profile claims, the probe (probe.h) proves. The annotated reference of every field is
// hsm-profiles/README.md and the schema hsm-profiles/schema.json; parse_profile() and the schema
// accept the same documents.

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace keyagent::pkcs11 {

// How to decrypt RSAES-OAEP with a hash that C_DecryptInit refuses.
enum class OaepPath { kNative, kRawInToken, kUnsupported };

struct Profile {
  std::string name;  // file name without ".yml": "softhsm2"
  std::string description;
  bool tested = false;  // true only for profiles that this project's tests run on
  std::vector<std::filesystem::path>
      modules;            // absolute, tried in order: Debian paths differ by release
  std::string init_args;  // CK_C_INITIALIZE_ARGS.pReserved, for modules that need one (NSS-like);
                          // empty: none
  std::map<std::string, std::string>
      environment;         // set before the module is loaded (values may hold "${state}")
  bool os_locking = true;  // CKF_OS_LOCKING_OK
  // Where a token in files lives, to check its disk's room (may hold "${state}"); empty: by
  // SOFTHSM2_CONF, or unknown.
  std::string token_folder;

  std::size_t sessions = 4;                  // most sessions at once, the login session not counted
  bool serialize = false;                    // one C_ call at a time in the whole module
  std::chrono::milliseconds deadline{5000};  // for one operation
  std::chrono::milliseconds keep_alive{0};   // idle sessions older than this get a canary; 0: none
  std::size_t queue = 256;                   // waiting callers before BUSY

  bool modifiable_false = true;         // CKA_MODIFIABLE=FALSE in the template of new keys
  bool unwrap_modifiable_false = true;  // the same in the template of C_UnwrapKey
  bool copyable_false = true;           // CKA_COPYABLE=FALSE in the template of new keys
  // After an object was destroyed the module is finalized and initialized: tpm2-pkcs11 gives a
  // later object the handle of another one otherwise (measured: a new key's public half was not
  // found; its list fills the gap with a number that is taken).
  bool reload_after_destroy = false;
  // Usages that a key is not to have are written as FALSE. tpm2-pkcs11 takes none that differs from
  // the TPM object's own attributes.
  bool deny_usages = true;
  bool always_sensitive =
      true;  // the token reports ALWAYS_SENSITIVE, NEVER_EXTRACTABLE and LOCAL truthfully
  bool allowed_mechanisms = false;  // CKA_ALLOWED_MECHANISMS works
  // Signing keys of these purposes are used through session copies (C_CopyObject); they are created
  // MODIFIABLE and COPYABLE, because SoftHSM refuses to copy a key that is not modifiable
  // (CKR_ATTRIBUTE_READ_ONLY, measured).
  bool session_copies = false;

  std::set<std::string> algorithms;  // "rsa-2048" … "aes-256": what the token can generate
  OaepPath oaep_sha1 = OaepPath::kNative;
  OaepPath oaep_sha256 = OaepPath::kNative;
  bool pss = true;
  bool ecdh = true;
  bool aes_gcm = true;
  bool aes_key_wrap = true;
  unsigned long aes_kwp_mechanism =
      0x210B;  // CKM_AES_KEY_WRAP_KWP; SoftHSM answers to 0x210A; 0: none
  bool rsa_aes_key_wrap = false;
  bool data_objects = true;  // CKO_DATA can be created (owner marker, ledger epoch)
  bool pin_flags = true;     // CKF_USER_PIN_COUNT_LOW and its like are set truthfully
  // Every signature is verified with its public key before it is released. False: only RSA ones,
  // whose faults give the private key away.
  bool verify_signatures = true;
  std::string unlock_hint;  // the command that unlocks a locked PIN
  std::string fault_hint;   // what to check when the token fails

  // Each fact that was read, not measured: field → source (document, section or URL).
  std::map<std::string, std::string> sources;
};

// `pattern` with "${state}" replaced.
std::string with_state(std::string pattern, const std::filesystem::path& state_folder);

// Parses and checks one document. `name` is used for messages and Profile::name. Throws
// Error{kProfile} "NAME:LINE: …" for an unknown or missing field, a relative module path, or a
// value out of range. Never reads another file.
Profile parse_profile(std::string_view yaml, const std::string& name);

// Reads a profile by file, at most 64 KiB. Throws Error{kProfile}.
Profile load_profile(const std::filesystem::path& path);

}  // namespace keyagent::pkcs11
