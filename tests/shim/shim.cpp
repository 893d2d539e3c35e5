// SPDX-License-Identifier: Apache-2.0
// The fault shim: see README.md.

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <sys/stat.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <thread>

#include "tests/shim/mischief.h"
#include "tests/shim/rsa_aes_key_wrap.h"
#include "tests/shim/rules.h"

namespace keyagent::shim {
namespace {

struct State {
  std::mutex mutex;
  std::condition_variable released;
  unsigned long release_count = 0;
  std::vector<Rule> rules;
  std::map<std::string, unsigned long> counts;
  timespec control_time{};
  long sessions = 0;  // that the real module has open
};

// Never destroyed: calls may come while the process ends.
State& state() {
  static auto* instance = new State;
  return *instance;
}

CK_FUNCTION_LIST* real() {
  static CK_FUNCTION_LIST* functions = [] {
    CK_FUNCTION_LIST* list = nullptr;
    const char* path = std::getenv("KEYAGENT_SHIM_REAL");
    void* handle =
        path != nullptr ? ::dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) : nullptr;
    if (handle == nullptr) {
      std::fprintf(stderr, "keyagent_shim: KEYAGENT_SHIM_REAL names no module: %s\n",
                   path != nullptr ? ::dlerror() : "unset");
      std::abort();
    }
    reinterpret_cast<CK_C_GetFunctionList>(::dlsym(handle, "C_GetFunctionList"))(&list);
    return list;
  }();
  return functions;
}

void release(State& shared) {
  ++shared.release_count;
  shared.released.notify_all();
}

bool set_rules(State& shared, const std::string& text) {
  auto rules = parse_rules(text);
  if (!rules) return false;
  shared.rules = std::move(*rules);
  return true;
}

// Reads the control file when it has changed; its absence means no rules.
void follow_control(State& shared) {
  static const char* path = std::getenv("KEYAGENT_SHIM_CONTROL");
  if (path == nullptr) return;
  struct stat info {};
  if (::stat(path, &info) != 0) info.st_mtim = {};
  if (info.st_mtim.tv_sec == shared.control_time.tv_sec &&
      info.st_mtim.tv_nsec == shared.control_time.tv_nsec)
    return;
  shared.control_time = info.st_mtim;
  std::ifstream in(path);
  set_rules(shared, std::string(std::istreambuf_iterator<char>(in), {}));
  release(shared);
}

void log_call(const char* function) {
  static const char* path = std::getenv("KEYAGENT_SHIM_LOG");
  if (path == nullptr) return;
  static FILE* file = std::fopen(path, "ae");
  if (file == nullptr) return;
  std::fprintf(file, "%s\n", function);
  std::fflush(file);
}

// The rule that this call falls under, copied out.
std::optional<Rule> judge(const char* function) {
  State& shared = state();
  const std::lock_guard lock(shared.mutex);
  static const bool from_environment = [&] {
    const char* text = std::getenv("KEYAGENT_SHIM_FAULTS");
    return text == nullptr || set_rules(shared, text);
  }();
  if (!from_environment) std::abort();
  follow_control(shared);
  log_call(function);
  ++shared.counts[function];
  std::optional<Rule> hit;
  for (auto& rule : shared.rules) {
    if (rule.function == function && strikes(rule) && !hit) hit = rule;
  }
  // Released from here on: who has seen the call counted may release it.
  if (hit && hit->action == Rule::Action::kHang) hit->value = shared.release_count;
  return hit;
}

void hang(unsigned long seen) {
  State& shared = state();
  std::unique_lock lock(shared.mutex);
  while (shared.release_count == seen) {
    shared.released.wait_for(lock, std::chrono::milliseconds(20));
    follow_control(shared);
  }
}

// Output that "flip", "zero" and "size" may spoil.
struct Output {
  CK_BYTE* bytes = nullptr;
  CK_ULONG* size = nullptr;
};

void spoil(const Rule& rule, Output output) {
  if (output.size == nullptr) return;
  if (rule.action == Rule::Action::kSize) *output.size = rule.value;
  if (output.bytes == nullptr || *output.size == 0) return;
  if (rule.action == Rule::Action::kFlip) output.bytes[*output.size / 2] ^= 0x10;
  if (rule.action == Rule::Action::kZero) std::memset(output.bytes, 0, *output.size);
}

template <class Call>
CK_RV forward(const char* function, Call&& call, Output output = {}, Rule* hit = nullptr) {
  const auto rule = judge(function);
  if (!rule) return call();
  if (hit != nullptr) *hit = *rule;
  if (rule->after) {
    const CK_RV rv = call();
    if (rule->action == Rule::Action::kKill) ::raise(SIGKILL);
    return rule->action == Rule::Action::kRv ? rule->value : rv;
  }
  switch (rule->action) {
    case Rule::Action::kRv:
      return rule->value;
    case Rule::Action::kDelay:
      std::this_thread::sleep_for(std::chrono::milliseconds(rule->value));  // elapses: "delay"
      return call();
    case Rule::Action::kHang:
      hang(rule->value);
      return call();
    case Rule::Action::kLeak:
      leak(rule->value);
      return call();
    case Rule::Action::kMeddle:
      meddle();
      return call();
    case Rule::Action::kFork:
      fork_child();
      return call();
    case Rule::Action::kReach:
      reach(rule->value, log_call);
      return call();
    case Rule::Action::kSegv:
      ::raise(SIGSEGV);
      break;
    case Rule::Action::kKill:
      ::raise(SIGKILL);
      break;
    default:
      break;
  }
  const CK_RV rv = call();
  if (rv == CKR_OK) spoil(*rule, output);
  return rv;
}

// The functions without an output that a rule may spoil all look alike.
#define KEYAGENT_SHIM_PASS(name)                                    \
  template <class... Args>                                          \
  struct Pass_##name;                                               \
  template <class... Args>                                          \
  struct Pass_##name<CK_RV (*)(Args...)> {                          \
    static CK_RV call(Args... args) {                               \
      return forward(#name, [&] { return real()->name(args...); }); \
    }                                                               \
  };

// clang-format off
#define KEYAGENT_SHIM_EACH(X) \
  X(C_Initialize) X(C_GetInfo) X(C_GetSlotInfo) \
  X(C_GetMechanismInfo) X(C_InitToken) X(C_InitPIN) \
  X(C_SetPIN) X(C_GetSessionInfo) \
  X(C_GetOperationState) X(C_SetOperationState) X(C_Login) X(C_Logout) X(C_CreateObject) \
  X(C_CopyObject) X(C_DestroyObject) X(C_GetObjectSize) \
  X(C_SetAttributeValue) X(C_FindObjectsInit) X(C_FindObjectsFinal) \
  X(C_EncryptInit) X(C_EncryptUpdate) X(C_EncryptFinal) X(C_DecryptInit) \
  X(C_DecryptUpdate) X(C_DecryptFinal) X(C_DigestInit) X(C_Digest) X(C_DigestUpdate) \
  X(C_DigestKey) X(C_DigestFinal) X(C_SignInit) X(C_SignUpdate) X(C_SignFinal) \
  X(C_SignRecoverInit) X(C_SignRecover) X(C_VerifyInit) X(C_Verify) X(C_VerifyUpdate) \
  X(C_VerifyFinal) X(C_VerifyRecoverInit) X(C_VerifyRecover) X(C_DigestEncryptUpdate) \
  X(C_DecryptDigestUpdate) X(C_SignEncryptUpdate) X(C_DecryptVerifyUpdate) X(C_DeriveKey) X(C_SeedRandom) \
  X(C_GetFunctionStatus) X(C_CancelFunction) X(C_WaitForSlotEvent)
// clang-format on

KEYAGENT_SHIM_EACH(KEYAGENT_SHIM_PASS)

CK_RV shim_sign(CK_SESSION_HANDLE session, CK_BYTE* data, CK_ULONG data_size, CK_BYTE* out,
                CK_ULONG* out_size) {
  return forward("C_Sign", [&] { return real()->C_Sign(session, data, data_size, out, out_size); },
                 {out, out_size});
}
CK_RV shim_decrypt(CK_SESSION_HANDLE session, CK_BYTE* data, CK_ULONG data_size, CK_BYTE* out,
                   CK_ULONG* out_size) {
  return forward("C_Decrypt",
                 [&] { return real()->C_Decrypt(session, data, data_size, out, out_size); },
                 {out, out_size});
}
CK_RV shim_encrypt(CK_SESSION_HANDLE session, CK_BYTE* data, CK_ULONG data_size, CK_BYTE* out,
                   CK_ULONG* out_size) {
  return forward("C_Encrypt",
                 [&] { return real()->C_Encrypt(session, data, data_size, out, out_size); },
                 {out, out_size});
}
CK_RV shim_wrap(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE wrapping,
                CK_OBJECT_HANDLE key, CK_BYTE* out, CK_ULONG* out_size) {
  return forward("C_WrapKey",
                 [&] {
                   if (mechanism->mechanism == kRsaAesKeyWrap)
                     return rsa_aes_wrap(real(), session, mechanism, wrapping, key, out, out_size);
                   return real()->C_WrapKey(session, mechanism, wrapping, key, out, out_size);
                 },
                 {out, out_size});
}
CK_RV shim_unwrap(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE unwrapping,
                  CK_BYTE* wrapped, CK_ULONG size, CK_ATTRIBUTE* wanted, CK_ULONG count,
                  CK_OBJECT_HANDLE* key) {
  return forward("C_UnwrapKey", [&] {
    if (mechanism->mechanism == kRsaAesKeyWrap)
      return rsa_aes_unwrap(real(), session, mechanism, unwrapping, wrapped, size, wanted, count,
                            key);
    return real()->C_UnwrapKey(session, mechanism, unwrapping, wrapped, size, wanted, count, key);
  });
}
// A token that makes keys which leave it, whatever is asked.
std::vector<CK_ATTRIBUTE> loosened(const CK_ATTRIBUTE* wanted, CK_ULONG count) {
  static CK_BBOOL yes = CK_TRUE;
  std::vector<CK_ATTRIBUTE> loose(wanted, wanted + count);
  for (auto& attribute : loose)
    if (attribute.type == CKA_EXTRACTABLE) attribute.pValue = &yes;
  return loose;
}
CK_RV shim_generate(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_ATTRIBUTE* wanted,
                    CK_ULONG count, CK_OBJECT_HANDLE* key) {
  auto other = loosened(wanted, count);
  Rule hit;
  return forward(
      "C_GenerateKey",
      [&] {
        return real()->C_GenerateKey(session, mechanism,
                                     hit.action == Rule::Action::kLoose ? other.data() : wanted,
                                     count, key);
      },
      {}, &hit);
}
CK_RV shim_generate_pair(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_ATTRIBUTE* open,
                         CK_ULONG open_count, CK_ATTRIBUTE* wanted, CK_ULONG count,
                         CK_OBJECT_HANDLE* open_key, CK_OBJECT_HANDLE* key) {
  auto other = loosened(wanted, count);
  Rule hit;
  return forward(
      "C_GenerateKeyPair",
      [&] {
        return real()->C_GenerateKeyPair(session, mechanism, open, open_count,
                                         hit.action == Rule::Action::kLoose ? other.data() : wanted,
                                         count, open_key, key);
      },
      {}, &hit);
}
CK_RV shim_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO* info) {
  Rule hit;
  return forward(
      "C_GetTokenInfo",
      [&] {
        const CK_RV rv = real()->C_GetTokenInfo(slot, info);
        if (hit.action == Rule::Action::kFlags) info->flags |= hit.value;
        return rv;
      },
      {}, &hit);
}
CK_RV shim_slots(CK_BBOOL present, CK_SLOT_ID* slots, CK_ULONG* count) {
  return forward("C_GetSlotList", [&] { return real()->C_GetSlotList(present, slots, count); },
                 {nullptr, count});
}
CK_RV shim_mechanisms(CK_SLOT_ID slot, CK_MECHANISM_TYPE* list, CK_ULONG* count) {
  return forward("C_GetMechanismList",
                 [&] { return real()->C_GetMechanismList(slot, list, count); }, {nullptr, count});
}
CK_RV shim_find(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE* found, CK_ULONG most,
                CK_ULONG* count) {
  return forward("C_FindObjects",
                 [&] { return real()->C_FindObjects(session, found, most, count); },
                 {nullptr, count});
}
CK_RV shim_attributes(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE* wanted,
                      CK_ULONG count) {
  return forward("C_GetAttributeValue",
                 [&] { return real()->C_GetAttributeValue(session, object, wanted, count); },
                 {nullptr, count == 0 ? nullptr : &wanted->ulValueLen});
}

// Sessions are counted where the real module opens and closes them: what is lost shows here.
void note_sessions(long change) {
  State& shared = state();
  const std::lock_guard lock(shared.mutex);
  shared.sessions = change == 0 ? 0 : shared.sessions + change;
}
CK_RV shim_open(CK_SLOT_ID slot, CK_FLAGS flags, void* context, CK_NOTIFY notify,
                CK_SESSION_HANDLE* session) {
  return forward("C_OpenSession", [&] {
    const CK_RV rv = real()->C_OpenSession(slot, flags, context, notify, session);
    if (rv == CKR_OK) note_sessions(1);
    return rv;
  });
}
CK_RV shim_close(CK_SESSION_HANDLE session) {
  return forward("C_CloseSession", [&] {
    const CK_RV rv = real()->C_CloseSession(session);
    if (rv == CKR_OK) note_sessions(-1);
    return rv;
  });
}
CK_RV shim_close_all(CK_SLOT_ID slot) {
  return forward("C_CloseAllSessions", [&] {
    const CK_RV rv = real()->C_CloseAllSessions(slot);
    if (rv == CKR_OK) note_sessions(0);
    return rv;
  });
}
CK_RV shim_finalize(void* reserved) {
  return forward("C_Finalize", [&] {
    const CK_RV rv = real()->C_Finalize(reserved);
    if (rv == CKR_OK) note_sessions(0);
    return rv;
  });
}
CK_RV shim_random(CK_SESSION_HANDLE session, CK_BYTE* out, CK_ULONG size) {
  return forward("C_GenerateRandom", [&] { return real()->C_GenerateRandom(session, out, size); },
                 {out, &size});
}

CK_RV get_function_list(CK_FUNCTION_LIST** out);

CK_FUNCTION_LIST* list() {
  static CK_FUNCTION_LIST* functions = [] {
    auto* made = new CK_FUNCTION_LIST{};
    made->version = {2, 40};
#define KEYAGENT_SHIM_SET(name) made->name = Pass_##name<decltype(made->name)>::call;
    KEYAGENT_SHIM_EACH(KEYAGENT_SHIM_SET)
    made->C_GetFunctionList = get_function_list;
    made->C_Sign = shim_sign;
    made->C_Decrypt = shim_decrypt;
    made->C_Encrypt = shim_encrypt;
    made->C_WrapKey = shim_wrap;
    made->C_UnwrapKey = shim_unwrap;
    made->C_GenerateKey = shim_generate;
    made->C_GenerateKeyPair = shim_generate_pair;
    made->C_GetTokenInfo = shim_token_info;
    made->C_GetSlotList = shim_slots;
    made->C_GetMechanismList = shim_mechanisms;
    made->C_FindObjects = shim_find;
    made->C_GetAttributeValue = shim_attributes;
    made->C_OpenSession = shim_open;
    made->C_CloseSession = shim_close;
    made->C_CloseAllSessions = shim_close_all;
    made->C_Finalize = shim_finalize;
    made->C_GenerateRandom = shim_random;
    return made;
  }();
  return functions;
}

CK_RV get_function_list(CK_FUNCTION_LIST** out) {
  *out = list();
  return CKR_OK;
}

}  // namespace
}  // namespace keyagent::shim

#define KEYAGENT_SHIM_EXPORT extern "C" __attribute__((visibility("default")))

KEYAGENT_SHIM_EXPORT CK_RV C_GetFunctionList(CK_FUNCTION_LIST** out) {
  return keyagent::shim::get_function_list(out);
}

KEYAGENT_SHIM_EXPORT int keyagent_shim_set(const char* rules) {
  auto& shared = keyagent::shim::state();
  const std::lock_guard lock(shared.mutex);
  return keyagent::shim::set_rules(shared, rules) ? 0 : 1;
}

KEYAGENT_SHIM_EXPORT unsigned long keyagent_shim_count(const char* function) {
  auto& shared = keyagent::shim::state();
  const std::lock_guard lock(shared.mutex);
  return shared.counts[function];
}

KEYAGENT_SHIM_EXPORT long keyagent_shim_sessions() {
  auto& shared = keyagent::shim::state();
  const std::lock_guard lock(shared.mutex);
  return shared.sessions;
}

KEYAGENT_SHIM_EXPORT void keyagent_shim_reset() {
  auto& shared = keyagent::shim::state();
  const std::lock_guard lock(shared.mutex);
  shared.counts.clear();
}

KEYAGENT_SHIM_EXPORT void keyagent_shim_release() {
  auto& shared = keyagent::shim::state();
  const std::lock_guard lock(shared.mutex);
  keyagent::shim::release(shared);
}
