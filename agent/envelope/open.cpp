// SPDX-License-Identifier: Apache-2.0
// Detects the format of an envelope, reads its header and opens it.

#include "agent/base/error.h"
#include "agent/envelope/cms.h"
#include "agent/envelope/container.h"
#include "agent/envelope/envelope.h"
#include "agent/envelope/jose.h"

namespace keyagent::envelope {

namespace {

Header cms_header(const CmsMessage& message) {
  Header header;
  header.format = Format::kCms;
  header.authenticated = message.authenticated;
  std::string refusal;
  for (const CmsRecipient& recipient : message.recipients) {
    if (recipient.key_id) header.recipient_ids.push_back(*recipient.key_id);
    if (header.algorithm == EnvelopeAlgorithm::kNone) header.algorithm = recipient.algorithm;
    if (refusal.empty()) refusal = recipient.refusal;
  }
  if (header.algorithm == EnvelopeAlgorithm::kNone) {
    throw Error(Code::kUnsupported, "this CMS message cannot be opened: " + refusal);
  }
  return header;
}

}  // namespace

// RELIABILITY 156: an attacker that can modify a message, or have one opened, must not learn
// anything about the plaintext of another one.
void require_content(const PublicKeyInfo& key, bool authenticated) {
  if (authenticated && key.accepts_cbc) {
    throw Error(Code::kUnsupported,
                "this key was created with --accept-cbc and opens only CMS with AES-CBC content; "
                "seal to another key",
                key.kid.text());
  }
  if (!authenticated && !key.accepts_cbc) {
    throw Error(
        Code::kUnsupported,
        "the content of this CMS message is encrypted with AES-CBC, which is not authenticated, so "
        "changes cannot be detected; seal it with openssl cms -encrypt -aes-256-gcm",
        key.kid.text());
  }
}

void require_authenticated(const PublicKeyInfo& key) {
  if (!key.accepts_cbc) return;
  throw Error(Code::kUnsupported,
              "cannot seal to a key that was created with --accept-cbc: it opens only AES-CBC "
              "content, as openssl cms -encrypt makes it; seal to another key",
              key.kid.text());
}

Header inspect(ByteView envelope) {
  const Container container = read_container(envelope);
  if (container.format == Format::kCms) {
    Header header = cms_header(parse_cms(container.message));
    header.armored = container.armored;
    return header;
  }
  const Jwe jwe = parse_jwe(container.token);
  Header header;
  header.kid = jwe.kid;
  header.algorithm = jwe.algorithm;
  header.binding = jwe.binding;
  return header;
}

SecretBytes open(KeyOps& ops, const PublicKeyInfo& key, ByteView envelope, bool named) {
  const Container container = read_container(envelope);
  if (container.format == Format::kCms) return open_cms(ops, key, container.message, named);
  return open_jwe(ops, key, container.token);
}

}  // namespace keyagent::envelope
