// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/libp11_view.h"

#include <libp11.h>
#include <openssl/err.h>

#include <algorithm>
#include <cstdlib>

#include "pkcs11/error.h"
#include "pkcs11/module.h"

namespace keyagent::pkcs11 {
namespace {

std::string text_of(const char* text) {
  std::string out = text == nullptr ? "" : text;
  out.erase(out.find_last_not_of(' ') + 1);
  return out;
}

// libp11 leaves its reason on OpenSSL's error stack.
[[noreturn]] void fail(const std::string& what) {
  const unsigned long code = ERR_peek_last_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  ERR_clear_error();
  throw Error(Error::Kind::kRv, what + (reason == nullptr ? "" : std::string(": ") + reason),
              CKR_GENERAL_ERROR);
}

TokenListing listing_of(const PKCS11_TOKEN* token) {
  TokenListing out;
  out.label = text_of(token->label);
  out.serial = text_of(token->serialnr);
  out.manufacturer = text_of(token->manufacturer);
  out.model = text_of(token->model);
  out.initialized = token->initialized != 0;
  out.user_pin_set = token->userPinSet != 0;
  out.login_required = token->loginRequired != 0;
  out.pin_count_low = token->userPinCountLow != 0;
  out.pin_final_try = token->userPinFinalTry != 0;
  out.pin_locked = token->userPinLocked != 0;
  return out;
}

// libp11 takes a PIN as a C string.
std::string c_string(const SecretBytes& pin) {
  if (std::find(pin.begin(), pin.end(), 0) != pin.end())
    throw Error(Error::Kind::kUnsupported, "a PIN must not contain a NUL byte");
  return {pin.begin(), pin.end()};
}

class PinText {
 public:
  explicit PinText(const SecretBytes& pin) : text_(c_string(pin)) {}
  ~PinText() { OPENSSL_cleanse(text_.data(), text_.size()); }
  PinText(const PinText&) = delete;
  const char* get() const { return text_.c_str(); }

 private:
  std::string text_;
};

}  // namespace

struct Libp11View::Impl {
  PKCS11_CTX* context = nullptr;
  PKCS11_SLOT* slots = nullptr;
  unsigned count = 0;
  std::filesystem::path module;

  Impl(const Profile& profile, const std::filesystem::path& state_folder) {
    // The same rules for the file and the same environment as for the daemon's own module.
    module = prepare_module(profile, state_folder);
    context = PKCS11_CTX_new();
    if (PKCS11_CTX_load(context, module.c_str()) != 0) {
      PKCS11_CTX_free(context);
      fail("the module " + module.string() + " does not load");
    }
    refresh();
  }

  void refresh() {
    if (slots != nullptr) PKCS11_release_all_slots(context, slots, count);
    slots = nullptr;
    if (PKCS11_enumerate_slots(context, &slots, &count) != 0)
      fail("the module's slots cannot be listed");
  }

  template <class Matches>
  PKCS11_SLOT* find(Matches&& matches) {
    for (unsigned i = 0; i < count; ++i) {
      if (slots[i].token != nullptr && matches(*slots[i].token)) return &slots[i];
    }
    return nullptr;
  }

  PKCS11_SLOT* select(const TokenSelector& selector) {
    const auto fits = [&](const PKCS11_TOKEN& token) {
      return token.initialized != 0 &&
             (selector.label.empty() || text_of(token.label) == selector.label) &&
             (selector.serial.empty() || text_of(token.serialnr) == selector.serial);
    };
    PKCS11_SLOT* found = find(fits);
    if (found == nullptr)
      throw Error(Error::Kind::kTokenAbsent, "no token has label '" + selector.label + "'");
    const auto same = std::count_if(slots, slots + count, [&](const PKCS11_SLOT& slot) {
      return slot.token != nullptr && fits(*slot.token);
    });
    if (same > 1) throw Error(Error::Kind::kAmbiguousToken, "two tokens match; add the serial");
    return found;
  }

  ~Impl() {
    if (slots != nullptr) PKCS11_release_all_slots(context, slots, count);
    PKCS11_CTX_unload(context);
    PKCS11_CTX_free(context);
  }
};

Libp11View::Libp11View(const Profile& profile, const std::filesystem::path& state_folder)
    : impl_(std::make_unique<Impl>(profile, state_folder)) {}
Libp11View::~Libp11View() = default;

std::vector<TokenListing> Libp11View::tokens() {
  std::vector<TokenListing> out;
  for (unsigned i = 0; i < impl_->count; ++i) {
    if (impl_->slots[i].token != nullptr) out.push_back(listing_of(impl_->slots[i].token));
  }
  return out;
}

TokenListing Libp11View::init_token(const std::string& label, const SecretBytes& so_pin,
                                    const SecretBytes& user_pin) {
  const auto named = [&](const PKCS11_TOKEN& token) {
    return token.initialized != 0 && text_of(token.label) == label;
  };
  if (impl_->find(named) != nullptr)
    throw Error(Error::Kind::kExists,
                "a token '" + label + "' already exists and is never reinitialized");
  PKCS11_SLOT* free = impl_->find([](const PKCS11_TOKEN& token) { return token.initialized == 0; });
  if (free == nullptr)
    throw Error(Error::Kind::kTokenAbsent, "the module has no free token to initialize");
  const PinText so_text(so_pin), user_text(user_pin);
  if (PKCS11_init_token(free->token, so_text.get(), label.c_str()) != 0) {
    fail("the token cannot be initialized (set up a TPM with scripts/provision-token)");
  }
  impl_->refresh();  // slot numbers may have changed
  PKCS11_SLOT* made = impl_->find(named);
  if (made == nullptr) fail("the token was initialized, but the module does not list it");
  if (PKCS11_login(made, 1, so_text.get()) != 0) fail("the SO PIN is refused after initialization");
  const bool set = PKCS11_init_pin(made->token, user_text.get()) == 0;
  PKCS11_logout(made);
  if (!set) fail("the user PIN cannot be set (is it long enough?)");
  impl_->refresh();
  return listing_of(impl_->find(named)->token);
}

void Libp11View::change_pin(const TokenSelector& selector, const SecretBytes& old_pin,
                            const SecretBytes& new_pin, bool of_so) {
  PKCS11_SLOT* slot = impl_->select(selector);
  if (!of_so && slot->token->userPinLocked != 0)
    throw Error(Error::Kind::kPinLocked, "the token's PIN is locked");
  if (!of_so && slot->token->userPinFinalTry != 0)
    throw Error(Error::Kind::kPinLastTry,
                "the token allows only one more PIN attempt, which is not used");
  const PinText before(old_pin), after(new_pin);
  if (PKCS11_open_session(slot, 1) != 0 || PKCS11_login(slot, of_so ? 1 : 0, before.get()) != 0) {
    throw Error(Error::Kind::kPinRefused, "the token refused the current PIN; one attempt was made",
                CKR_PIN_INCORRECT);
  }
  const bool changed = PKCS11_change_pin(slot, before.get(), after.get()) == 0;
  PKCS11_logout(slot);
  if (!changed) fail("the token rejected the new PIN (is it long enough?)");
}

std::vector<KeyListing> Libp11View::keys(const TokenSelector& selector,
                                         const SecretBytes& user_pin) {
  PKCS11_SLOT* slot = impl_->select(selector);
  const PinText pin(user_pin);
  if (PKCS11_login(slot, 0, pin.get()) != 0)
    throw Error(Error::Kind::kPinRefused, "the token refused the PIN", CKR_PIN_INCORRECT);
  std::vector<KeyListing> out;
  const auto add = [&](PKCS11_KEY* keys, unsigned number) {
    for (unsigned i = 0; i < number; ++i) {
      out.push_back({Bytes(keys[i].id, keys[i].id + keys[i].id_len),
                     keys[i].label == nullptr ? "" : keys[i].label, keys[i].isPrivate != 0});
    }
  };
  PKCS11_KEY* found = nullptr;
  unsigned number = 0;
  if (PKCS11_enumerate_keys(slot->token, &found, &number) == 0) add(found, number);
  if (PKCS11_enumerate_public_keys(slot->token, &found, &number) == 0) add(found, number);
  PKCS11_logout(slot);
  return out;
}

}  // namespace keyagent::pkcs11
