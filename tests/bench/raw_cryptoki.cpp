// SPDX-License-Identifier: Apache-2.0
// Cryptoki without anything of ours: one session a thread on a module, the bar that the agent is
// measured by. Also for other people's modules (p11-kit-client.so).
//   --module FILE --label TOKEN --pin-file FILE --op ec-sign|rsa-sign|rsa-decrypt|aes-gcm (--id HEX
//   | --key LABEL) [--copies 1]
//   [--threads N] [--milliseconds N] [--name NAME] [--fill N: make N EC keys first, then end]
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>

#include <cstring>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "measure.h"

namespace keyagent::bench {
namespace {

using Buffer = std::vector<CK_BYTE>;

void must(CK_RV rv, const char* what) {
  if (rv == CKR_OK) return;
  char text[80];
  std::snprintf(text, sizeof text, "%s: CKR 0x%lx", what, rv);
  throw std::runtime_error(text);
}

Buffer bytes_of_hex(const std::string& hex) {
  Buffer bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<CK_BYTE>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

CK_FUNCTION_LIST* load(const std::string& module) {
  void* library = ::dlopen(module.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(::dlerror());
  auto get = reinterpret_cast<CK_C_GetFunctionList>(::dlsym(library, "C_GetFunctionList"));
  CK_FUNCTION_LIST* list = nullptr;
  must(get(&list), "C_GetFunctionList");
  CK_C_INITIALIZE_ARGS arguments{};
  arguments.flags = CKF_OS_LOCKING_OK;
  must(list->C_Initialize(&arguments), "C_Initialize");
  return list;
}

CK_SLOT_ID slot_with(CK_FUNCTION_LIST& c, std::string label) {
  label.resize(32, ' ');
  CK_ULONG count = 64;
  std::vector<CK_SLOT_ID> slots(count);
  must(c.C_GetSlotList(CK_TRUE, slots.data(), &count), "C_GetSlotList");
  for (CK_ULONG i = 0; i < count; ++i) {
    CK_TOKEN_INFO info{};
    if (c.C_GetTokenInfo(slots[i], &info) == CKR_OK &&
        std::memcmp(info.label, label.data(), 32) == 0)
      return slots[i];
  }
  throw std::runtime_error("no token with the label " + label);
}

struct Token {
  CK_FUNCTION_LIST* c;
  CK_SLOT_ID slot;

  explicit Token(const Arguments& arguments)
      : c(load(arguments.text("module"))), slot(slot_with(*c, arguments.text("label"))) {
    std::string pin;
    std::ifstream file(arguments.text("pin-file"));
    std::getline(file, pin);
    const CK_RV rv = c->C_Login(session(), CKU_USER, reinterpret_cast<CK_BYTE*>(pin.data()),
                                static_cast<CK_ULONG>(pin.size()));
    if (rv != CKR_USER_ALREADY_LOGGED_IN) must(rv, "C_Login");
  }
  CK_SESSION_HANDLE session() const {
    CK_SESSION_HANDLE handle = 0;
    must(c->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &handle),
         "C_OpenSession");
    return handle;
  }
};

CK_OBJECT_HANDLE find(const Token& token, CK_SESSION_HANDLE session, CK_OBJECT_CLASS object_class,
                      const Arguments& arguments) {
  const Buffer id = bytes_of_hex(arguments.text("id", ""));
  const std::string label = arguments.text("key", "");
  CK_ATTRIBUTE wanted[] = {
      {CKA_CLASS, &object_class, sizeof object_class},
      {id.empty() ? CKA_LABEL : CKA_ID,
       const_cast<void*>(id.empty() ? static_cast<const void*>(label.data()) : id.data()),
       id.empty() ? label.size() : id.size()}};
  must(token.c->C_FindObjectsInit(session, wanted, 2), "C_FindObjectsInit");
  CK_OBJECT_HANDLE handle = 0;
  CK_ULONG count = 0;
  const CK_RV rv = token.c->C_FindObjects(session, &handle, 1, &count);
  token.c->C_FindObjectsFinal(session);
  must(rv, "C_FindObjects");
  if (count == 0) throw std::runtime_error("the key is not in the token");
  return handle;
}

CK_OBJECT_HANDLE copy_of(const Token& token, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key) {
  CK_BBOOL no = CK_FALSE;
  CK_ATTRIBUTE in_session[] = {{CKA_TOKEN, &no, sizeof no}};
  CK_OBJECT_HANDLE copy = 0;
  must(token.c->C_CopyObject(session, key, in_session, 1, &copy), "C_CopyObject");
  return copy;
}

// RFC 8017 §9.2: DigestInfo of SHA-256, then the digest.
Buffer digest_info() {
  Buffer bytes = bytes_of_hex("3031300d060960864801650304020105000420");
  bytes.resize(bytes.size() + 32, 0x5a);
  return bytes;
}

Work signing(const Token& token, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key,
             CK_MECHANISM_TYPE type, Buffer input) {
  return [&token, session, key, type, input]() mutable {
    CK_MECHANISM mechanism{type, nullptr, 0};
    CK_BYTE signature[512];
    CK_ULONG size = sizeof signature;
    must(token.c->C_SignInit(session, &mechanism, key), "C_SignInit");
    must(token.c->C_Sign(session, input.data(), input.size(), signature, &size), "C_Sign");
  };
}

CK_RSA_PKCS_OAEP_PARAMS oaep_sha1() {
  return {CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED, nullptr, 0};
}

Work decrypting(const Token& token, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key,
                CK_OBJECT_HANDLE public_key) {
  auto parameters = oaep_sha1();
  CK_MECHANISM mechanism{CKM_RSA_PKCS_OAEP, &parameters, sizeof parameters};
  Buffer cek(32, 7), sealed(512);
  CK_ULONG size = sealed.size();
  must(token.c->C_EncryptInit(session, &mechanism, public_key), "C_EncryptInit");
  must(token.c->C_Encrypt(session, cek.data(), cek.size(), sealed.data(), &size), "C_Encrypt");
  sealed.resize(size);
  return [&token, session, key, sealed]() mutable {
    auto again = oaep_sha1();
    CK_MECHANISM oaep{CKM_RSA_PKCS_OAEP, &again, sizeof again};
    CK_BYTE plain[512];
    CK_ULONG length = sizeof plain;
    must(token.c->C_DecryptInit(session, &oaep, key), "C_DecryptInit");
    must(token.c->C_Decrypt(session, sealed.data(), sealed.size(), plain, &length), "C_Decrypt");
  };
}

// A content key of 32 bytes, as A256GCMKW wraps it.
Work wrapping(const Token& token, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key) {
  return [&token, session, key, iv = Buffer(12, 1), cek = Buffer(32, 7)]() mutable {
    CK_GCM_PARAMS parameters{iv.data(), iv.size(), iv.size() * 8, nullptr, 0, 128};
    CK_MECHANISM gcm{CKM_AES_GCM, &parameters, sizeof parameters};
    CK_BYTE sealed[64];
    CK_ULONG size = sizeof sealed;
    must(token.c->C_EncryptInit(session, &gcm, key), "C_EncryptInit");
    must(token.c->C_Encrypt(session, cek.data(), cek.size(), sealed, &size), "C_Encrypt");
  };
}

Work work_of(const Token& token, const Arguments& arguments) {
  const CK_SESSION_HANDLE session = token.session();
  const std::string op = arguments.text("op");
  const bool secret = op == "aes-gcm";
  CK_OBJECT_HANDLE key = find(token, session, secret ? CKO_SECRET_KEY : CKO_PRIVATE_KEY, arguments);
  if (arguments.number("copies", 0) != 0) key = copy_of(token, session, key);
  if (secret) return wrapping(token, session, key);
  if (op == "ec-sign") return signing(token, session, key, CKM_ECDSA, Buffer(32, 0x5a));
  if (op == "rsa-sign") return signing(token, session, key, CKM_RSA_PKCS, digest_info());
  if (op != "rsa-decrypt") throw std::runtime_error("--op ec-sign|rsa-sign|rsa-decrypt|aes-gcm");
  return decrypting(token, session, key, find(token, session, CKO_PUBLIC_KEY, arguments));
}

// Other keys, so that the token is as full as a large agent's.
void fill(const Token& token, unsigned count) {
  const CK_SESSION_HANDLE session = token.session();
  Buffer p256 = bytes_of_hex("06082a8648ce3d030107");
  CK_BBOOL yes = CK_TRUE;
  for (unsigned i = 0; i < count; ++i) {
    std::string label = "filler-" + std::to_string(i);
    CK_ATTRIBUTE shared[] = {{CKA_TOKEN, &yes, sizeof yes},
                             {CKA_LABEL, label.data(), label.size()},
                             {CKA_EC_PARAMS, p256.data(), p256.size()}};
    CK_ATTRIBUTE secret[] = {{CKA_TOKEN, &yes, sizeof yes},
                             {CKA_PRIVATE, &yes, sizeof yes},
                             {CKA_SENSITIVE, &yes, sizeof yes},
                             {CKA_SIGN, &yes, sizeof yes},
                             {CKA_LABEL, label.data(), label.size()}};
    CK_MECHANISM mechanism{CKM_EC_KEY_PAIR_GEN, nullptr, 0};
    CK_OBJECT_HANDLE public_key = 0, private_key = 0;
    must(token.c->C_GenerateKeyPair(session, &mechanism, shared, 3, secret, 5, &public_key,
                                    &private_key),
         "C_GenerateKeyPair");
  }
}

int body(const Arguments& arguments) {
  const Token token(arguments);
  if (const unsigned count = arguments.number("fill", 0); count > 0) {
    fill(token, count);
    return 0;
  }
  const unsigned threads = arguments.number("threads", 2);
  const auto load = run(threads, std::chrono::milliseconds(arguments.number("milliseconds", 2000)),
                        [&](unsigned) { return work_of(token, arguments); });
  return print(arguments.text("name", "raw-" + arguments.text("op")), threads, load);
}

}  // namespace
}  // namespace keyagent::bench

int main(int argc, char** argv) {
  return keyagent::bench::guarded(argc, argv, keyagent::bench::body);
}
