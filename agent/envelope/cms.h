// SPDX-License-Identifier: Apache-2.0
#pragma once
// The public part of a CMS message (RFC 5652 §6, RFC 5083), parsed strictly. Internal to this room.

#include <optional>
#include <string>
#include <vector>

#include "agent/envelope/envelope.h"
#include "agent/envelope/secrets.h"

namespace keyagent::envelope {

// One recipient: RSAES-OAEP (RFC 3560) or ephemeral-static ECDH with AES key wrap (RFC 5753 §3.1).
struct CmsRecipient {
  std::optional<Bytes>
      key_id;  // subject key identifier; nullopt: named by issuer and serial number
  EnvelopeAlgorithm algorithm = EnvelopeAlgorithm::kNone;  // kNone: unsupported; see `refusal`
  std::string refusal;
  Bytes encrypted_key;
  // Agreement only.
  std::optional<KeyAlgorithm> curve;  // where the originator's key names one
  Bytes ephemeral_point;              // not yet known to be on the curve
  KdfHash kdf = KdfHash::kSha256;
  std::size_t kek_size = 0;
  Bytes shared_info;  // DER ECC-CMS-SharedInfo
};

struct CmsMessage {
  bool authenticated = false;  // AuthEnvelopedData with AES-GCM; else EnvelopedData with AES-CBC
  std::size_t cek_size = 0;
  Bytes iv, ciphertext, tag;
  Bytes aad;  // DER of the authenticated attributes, or empty
  std::vector<CmsRecipient> recipients;
};

// `bytes`: one whole BER element (container.h). Throws Error{kInput} for malformed messages,
// Error{kUnsupported} for well-formed ones of an unsupported kind.
CmsMessage parse_cms(ByteView bytes);

SecretBytes open_cms(KeyOps& ops, const PublicKeyInfo& key, ByteView bytes, bool named);

}  // namespace keyagent::envelope
