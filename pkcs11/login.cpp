// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/login.h"

#include <botan/hex.h>
#include <botan/pwdhash.h>
#include <botan/system_rng.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "pkcs11/error.h"

namespace keyagent::pkcs11 {
namespace {

// 16 MiB, two passes: a stolen file costs an attacker tens of milliseconds a guess, and a start of
// the agent no more.
constexpr std::size_t kMemoryKib = 16384, kPasses = 2, kLanes = 1, kHash = 32, kSalt = 16;
constexpr std::size_t kPinPart = 2 * kSalt + 1 + 2 * kHash;  // "salt:hash"
constexpr std::size_t kMaxTokens = 8;                        // that one file remembers

std::string hash_pin(const SecretBytes& pin, const SecretBytes& salt) {
  const auto family = Botan::PasswordHashFamily::create_or_throw("Argon2id");
  const auto hasher = family->from_params(kMemoryKib, kPasses, kLanes);
  SecretBytes out(kHash);
  hasher->derive_key(out.data(), out.size(), reinterpret_cast<const char*>(pin.data()), pin.size(),
                     salt.data(), salt.size());
  return Botan::hex_encode(out.data(), out.size(), false);
}

// A name is on the disk when its folder is.
bool sync_folder_of(const std::filesystem::path& path) {
  const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool synced = ::fsync(fd) == 0;
  ::close(fd);
  return synced;
}

bool write_private(const std::filesystem::path& path, const std::string& text) {
  const auto temporary = path.string() + ".new";
  const int fd =
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return false;
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const bool synced = ::fsync(fd) == 0;
  ::close(fd);
  return written && synced && ::rename(temporary.c_str(), path.c_str()) == 0 &&
         sync_folder_of(path);
}

[[noreturn]] void refuse_last_try(const Profile& profile) {
  throw Error(Error::Kind::kPinLastTry,
              "the token allows only one more PIN attempt, which is not used; " +
                  (profile.unlock_hint.empty() ? "log in once manually to reset its counter"
                                               : profile.unlock_hint));
}

// For the same PIN, which the token may have again.
std::string retry_hint(const RefusedPin& refused) {
  return "; it is not retried until it changes" +
         (refused.file().empty() ? ""
                                 : ", or " + refused.file().string() +
                                       " is removed because the token has this PIN now");
}

[[noreturn]] void refuse_locked(const Profile& profile) {
  throw Error(Error::Kind::kPinLocked,
              "the token's PIN is locked; " +
                  (profile.unlock_hint.empty() ? "unlock it with the SO PIN" : profile.unlock_hint),
              CKR_PIN_LOCKED);
}

SecretBytes get_pin(const PinSource& source) {
  try {
    return source();
  } catch (const std::exception& error) {
    throw Error(Error::Kind::kPinRefused, std::string("no PIN: ") + error.what());
  }
}

std::string line_of(const SecretBytes& pin, const std::string& token) {
  SecretBytes salt(kSalt);
  Botan::system_rng().randomize(salt.data(), salt.size());
  return Botan::hex_encode(salt.data(), salt.size(), false) + ":" + hash_pin(pin, salt) + ":" +
         token;
}

// Version 0.1.0 wrote no token: the line is of any.
bool is_of_token(const std::string& line, const std::string& token) {
  return line.size() <= kPinPart || line.substr(kPinPart) == ":" + token;
}

bool is_of_pin(const std::string& line, const SecretBytes& pin) {
  if (line.size() < kPinPart || line[2 * kSalt] != ':' ||
      line.find_first_not_of("0123456789abcdef") != 2 * kSalt)
    return false;
  const auto salt = Botan::hex_decode_locked(line.substr(0, 2 * kSalt));
  return hash_pin(pin, salt) == line.substr(2 * kSalt + 1, 2 * kHash);
}

bool erase_token(std::vector<std::string>& lines, const std::string& token) {
  return std::erase_if(lines, [&](const auto& line) { return is_of_token(line, token); }) > 0;
}

void put_first(std::vector<std::string>& lines, std::string line, const std::string& token) {
  erase_token(lines, token);
  lines.insert(lines.begin(), std::move(line));
  if (lines.size() > kMaxTokens) lines.resize(kMaxTokens);
}

std::string text_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  return text;
}

bool in_user_state(CK_FUNCTION_LIST& c, CK_SESSION_HANDLE session) {
  CK_SESSION_INFO info{};
  check(c.C_GetSessionInfo(session, &info), "C_GetSessionInfo");
  return info.state == CKS_RW_USER_FUNCTIONS || info.state == CKS_RO_USER_FUNCTIONS;
}

}  // namespace

std::string identity_of(const CK_TOKEN_INFO& info) {
  return Botan::hex_encode(info.label, sizeof info.label) +
         Botan::hex_encode(info.serialNumber, sizeof info.serialNumber) +
         ((info.flags & CKF_USER_PIN_INITIALIZED) != 0 ? "+" : "-");
}

RefusedPin::Lines RefusedPin::recorded() const {
  if (!recorded_.empty() || file_.empty()) return recorded_;
  Lines lines;
  std::ifstream in(file_);
  for (std::string line; lines.size() < kMaxTokens && std::getline(in, line);)
    lines.push_back(line);
  return lines;
}

bool RefusedPin::is(const SecretBytes& pin, const std::string& token) const {
  const auto matches = [&](const std::string& line) {
    return (token.empty() || is_of_token(line, token)) && is_of_pin(line, pin);
  };
  const Lines lines = recorded();
  return std::any_of(noted_.begin(), noted_.end(), matches) ||
         std::any_of(lines.begin(), lines.end(), matches);
}

void RefusedPin::note_here(const SecretBytes& pin, const std::string& token) {
  put_first(noted_, line_of(pin, token), token);
  if (locked_ == token) locked_.clear();
}

void RefusedPin::note_locked(const SecretBytes& pin, const std::string& token) {
  note_here(pin, token);
  locked_ = token;
}

void RefusedPin::remember(const SecretBytes& pin, const std::string& token) {
  recorded_ = recorded();
  put_first(recorded_, line_of(pin, token), token);
  erase_token(noted_, token);
  if (locked_ == token) locked_.clear();
  written_ = !file_.empty() && write_private(file_, text_of(recorded_));
  if (!file_.empty() && !written_) {
    throw Error(Error::Kind::kPinRefused, "the token refused the PIN, and " + file_.string() +
                                              " cannot be written to record it");
  }
}

void RefusedPin::forget_removed() {
  std::error_code error;
  if (!written_ || std::filesystem::exists(file_, error) || error) return;
  recorded_.clear();
  written_ = false;
}

bool RefusedPin::recordable() const {
  if (file_.empty()) return true;
  const auto folder = file_.has_parent_path() ? file_.parent_path() : std::filesystem::path(".");
  return ::faccessat(AT_FDCWD, folder.c_str(), W_OK | X_OK, AT_EACCESS) == 0;
}

void RefusedPin::clear(const std::string& token) {
  erase_token(noted_, token);
  if (locked_ == token) locked_.clear();
  recorded_ = recorded();
  const bool erased = erase_token(recorded_, token);
  if (file_.empty()) return;
  std::error_code ignored;
  if (recorded_.empty()) {
    if (std::filesystem::remove(file_, ignored)) sync_folder_of(file_);
  } else if (erased) {
    write_private(file_, text_of(recorded_));
  }
}

void log_in(CK_FUNCTION_LIST& functions, CK_SESSION_HANDLE session, const CK_TOKEN_INFO& info,
            const Profile& profile, const PinSource& source, RefusedPin& refused) {
  if (in_user_state(functions, session)) return;
  if (profile.pin_flags && (info.flags & CKF_USER_PIN_LOCKED) != 0) refuse_locked(profile);
  if (profile.pin_flags && (info.flags & CKF_USER_PIN_FINAL_TRY) != 0) refuse_last_try(profile);
  SecretBytes pin = get_pin(source);
  refused.forget_removed();
  const std::string token = identity_of(info);
  if (refused.is(pin, token)) {
    if (refused.locked(token)) refuse_locked(profile);
    throw Error(Error::Kind::kPinRefused,
                "the token refused this PIN before" + retry_hint(refused));
  }
  // A failed attempt, perhaps with this PIN at a token that names itself otherwise now (a cluster
  // whose members answer in turn): the counter may be one.
  if ((info.flags & CKF_USER_PIN_COUNT_LOW) != 0 && refused.is(pin)) {
    throw Error(
        Error::Kind::kPinRefused,
        "the token reports a failed PIN attempt, and another token refused this PIN before; "
        "it is not tried; if it is right, log in once manually");
  }
  // After a failed attempt, when another failure could not be recorded: a service that restarts
  // repeatedly would lock the PIN. The flags only refuse here, even if the profile does not trust
  // them.
  if ((info.flags & CKF_USER_PIN_COUNT_LOW) != 0 && !refused.recordable()) {
    throw Error(Error::Kind::kPinRefused,
                "the token reports a failed PIN attempt, and a refusal could not be recorded: the "
                "state folder cannot be written; make it writable, or log in once manually");
  }
  const CK_RV rv =
      functions.C_Login(session, CKU_USER, pin.data(), static_cast<CK_ULONG>(pin.size()));
  switch (rv) {
    case CKR_OK:
      refused.clear(token);
      return;
    case CKR_USER_ALREADY_LOGGED_IN:
      if (in_user_state(functions, session)) return;
      break;
    case CKR_PIN_LOCKED:
      refused.note_locked(pin, token);
      refuse_locked(profile);
    case CKR_PIN_INCORRECT:
    case CKR_PIN_INVALID:
    case CKR_PIN_LEN_RANGE:
      refused.remember(pin, token);
      throw Error(Error::Kind::kPinRefused,
                  "the token refused the PIN (" + rv_name(rv) + ")" + retry_hint(refused), rv);
    default:
      break;
  }
  if (rv_class(rv) == RvClass::kPin) {  // expired, not initialized, the SO is logged in
    refused.note_here(pin, token);
    throw Error(Error::Kind::kPinRefused, "C_Login: " + rv_name(rv), rv);
  }
  check(rv == CKR_OK ? CKR_GENERAL_ERROR : rv, "C_Login");
}

}  // namespace keyagent::pkcs11
