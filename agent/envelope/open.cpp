// The front door: which format is it, and what does it say of itself.

#include "agent/base/error.h"
#include "agent/envelope/cms.h"
#include "agent/envelope/envelope.h"
#include "agent/envelope/jose.h"

namespace keyagent::envelope {

namespace {

constexpr std::uint8_t kDerSequence = 0x30;

bool is_cms(ByteView envelope) {
  return envelope[0] == kDerSequence || as_text(envelope).starts_with("-----BEGIN ");
}

void check_size(ByteView envelope) {
  if (envelope.empty()) throw Error(Code::kInput, "the envelope is empty");
  if (envelope.size() > kMaxEnvelope) {
    throw Error(Code::kInput, "the envelope is longer than 180 KiB");
  }
  if (as_text(envelope).starts_with("MIME-Version:")) {
    throw Error(Code::kUnsupported,
                "the envelope is an S/MIME mail; write DER (openssl cms -encrypt -outform DER)");
  }
}

// Tools end their output with a line feed; the token itself has none.
std::string_view token_of(ByteView envelope) {
  std::string_view token = as_text(envelope);
  if (token.ends_with('\n')) token.remove_suffix(1);
  if (token.ends_with('\r')) token.remove_suffix(1);
  return token;
}

Header cms_header(const CmsMessage& message) {
  Header header;
  header.format = Format::kCms;
  std::string refusal;
  for (const CmsRecipient& recipient : message.recipients) {
    if (recipient.key_id) header.recipient_ids.push_back(*recipient.key_id);
    if (header.algorithm == EnvelopeAlgorithm::kNone) header.algorithm = recipient.algorithm;
    if (refusal.empty()) refusal = recipient.refusal;
  }
  if (header.algorithm == EnvelopeAlgorithm::kNone) {
    throw Error(Code::kUnsupported, "this CMS message cannot be opened here: " + refusal);
  }
  return header;
}

}  // namespace

Header inspect(ByteView envelope) {
  check_size(envelope);
  if (is_cms(envelope)) return cms_header(parse_cms(envelope));
  const Jwe jwe = parse_jwe(token_of(envelope));
  return Header{Format::kJwe, jwe.kid, jwe.algorithm, {}};
}

SecretBytes open(KeyOps& ops, const PublicKeyInfo& key, ByteView envelope) {
  check_size(envelope);
  if (is_cms(envelope)) return open_cms(ops, key, envelope);
  return open_jwe(ops, key, token_of(envelope));
}

}  // namespace keyagent::envelope
