// SPDX-License-Identifier: Apache-2.0
// Writing a key: provider-encoder(7). Public halves are written by the default provider, to which
// the keymgmt gives them. What asks for the private half gets a reference to it, or a plain no.

#include <openssl/core_names.h>

#include <array>

#include "agent/openssl/context.h"
#include "agent/openssl/reference.h"

namespace keyagent::openssl {
namespace {

void* fresh(void* provider) {
  return provider;
}
void release(void*) {}

int wants_private(void*, int selection) {
  return (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 ? 1 : 0;
}

int write(const Context& context, OSSL_CORE_BIO* out, const std::string& text) {
  std::size_t written = 0;
  auto* const write_ex = context.core().bio_write_ex;
  return write_ex != nullptr && write_ex(out, text.data(), text.size(), &written) != 0 &&
                 written == text.size()
             ? 1
             : 0;
}

const Key& agents_key(const void* object) {
  const Key& key = static_cast<const Handle*>(object)->key;
  if (!key.info) throw Error(Code::kUsage, "this is a public key without a private key");
  return key;
}

// The file that `keyagent key reference` writes: what openssl genpkey gets for its -out.
int encode_reference(void* provider, OSSL_CORE_BIO* out, const void* object,
                     const OSSL_PARAM* /*abstract*/, int /*selection*/,
                     OSSL_PASSPHRASE_CALLBACK* /*ask*/, void* /*argument*/) {
  const auto& context = *static_cast<const Context*>(provider);
  return context.guarded([&] {
    return write(context, out, reference_pem(reference_uri(agents_key(object).info->name)));
  });
}

int refuse(void* provider, OSSL_CORE_BIO* /*out*/, const void* object,
           const OSSL_PARAM* /*abstract*/, int /*selection*/, OSSL_PASSPHRASE_CALLBACK* /*ask*/,
           void* /*argument*/) {
  return static_cast<const Context*>(provider)->guarded([&]() -> int {
    const PublicKeyInfo& info = *agents_key(object).info;
    throw Error(Code::kUnsupported,
                "the private key " + info.name +
                    " does not leave its token; PEM output is a reference to it, and -pubout "
                    "writes the public key",
                info.kid.text());
  });
}

// As OpenSSL prints numbers: 15 bytes a line.
std::string hex_lines(ByteView bytes, bool number) {
  constexpr char kDigits[] = "0123456789abcdef";
  Bytes shown(bytes.begin(), bytes.end());
  if (number && (shown.empty() || shown.front() >= 0x80)) shown.insert(shown.begin(), 0);
  std::string text;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    if (i % 15 == 0) text += i == 0 ? "    " : "\n    ";
    text += {kDigits[shown[i] >> 4], kDigits[shown[i] & 15]};
    if (i + 1 < shown.size()) text += ':';
  }
  return text + "\n";
}

std::string text_of(const Key& key) {
  const PublicKeyInfo& info = *key.info;
  std::string text =
      std::string(name_of(key.type)) + " Private-Key: (" + std::to_string(key.bits()) +
      " bit)\nkept by the agent: keyagent:" + info.name + "\nkid: " + info.kid.text() +
      "\npurpose: " + std::string(keyagent::name_of(info.purpose)) + "\n";
  if (key.type == Type::kRsa)
    return text + "Modulus:\n" + hex_lines(key.modulus, true) + "Exponent:\n" +
           hex_lines(key.exponent, false);
  text += "pub:\n" + hex_lines(key.point, false);
  return key.type == Type::kEc ? text + "ASN1 OID: " + key.group + "\n" : text;
}

int encode_text(void* provider, OSSL_CORE_BIO* out, const void* object,
                const OSSL_PARAM* /*abstract*/, int /*selection*/,
                OSSL_PASSPHRASE_CALLBACK* /*ask*/, void* /*argument*/) {
  const auto& context = *static_cast<const Context*>(provider);
  return context.guarded([&] { return write(context, out, text_of(agents_key(object))); });
}

template <OSSL_FUNC_encoder_encode_fn* encode>
const OSSL_DISPATCH* functions() {
  static const OSSL_DISPATCH kFunctions[] = {
      {OSSL_FUNC_ENCODER_NEWCTX, as_function(fresh)},
      {OSSL_FUNC_ENCODER_FREECTX, as_function(release)},
      {OSSL_FUNC_ENCODER_DOES_SELECTION, as_function(wants_private)},
      {OSSL_FUNC_ENCODER_ENCODE, as_function(encode)},
      {0, nullptr}};
  return kFunctions;
}

struct Form {
  const char* properties;
  const OSSL_DISPATCH* functions;
  const char* description;
};

constexpr const char* kNames[] = {"RSA:rsaEncryption:1.2.840.113549.1.1.1",
                                  "EC:id-ecPublicKey:1.2.840.10045.2.1", "ED25519:1.3.101.112"};
constexpr std::size_t kForms = 7;

}  // namespace

const OSSL_ALGORITHM* encoder_algorithms() {
  static const auto kAlgorithms = [] {
    const Form forms[kForms] = {
        {"provider=keyagent,output=pem,structure=PrivateKeyInfo", functions<encode_reference>(),
         "references to keys of the agent"},
        {"provider=keyagent,output=pem,structure=type-specific", functions<encode_reference>(),
         "references to keys of the agent"},
        {"provider=keyagent,output=der,structure=PrivateKeyInfo", functions<refuse>(),
         "unsupported output"},
        {"provider=keyagent,output=pem,structure=EncryptedPrivateKeyInfo", functions<refuse>(),
         "unsupported output"},
        {"provider=keyagent,output=der,structure=EncryptedPrivateKeyInfo", functions<refuse>(),
         "unsupported output"},
        {"provider=keyagent,output=der,structure=type-specific", functions<refuse>(),
         "unsupported output"},
        {"provider=keyagent,output=text", functions<encode_text>(), "keys of the agent as text"}};
    std::array<OSSL_ALGORITHM, std::size(kNames) * kForms + 1> all{};
    std::size_t at = 0;
    for (const char* names : kNames) {
      for (const Form& form : forms)
        all[at++] = {names, form.properties, form.functions, form.description};
    }
    return all;
  }();
  return kAlgorithms.data();
}

}  // namespace keyagent::openssl
