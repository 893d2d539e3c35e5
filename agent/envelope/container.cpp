// SPDX-License-Identifier: Apache-2.0
#include "agent/envelope/container.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/pem.h>

#include <algorithm>

#include "agent/base/error.h"
#include "agent/envelope/openssl_owned.h"

namespace keyagent::envelope {

namespace {

constexpr std::uint8_t kDerSequence = 0x30;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kWhiteSpace = " \t\r\n";
constexpr std::string_view kBegin = "-----BEGIN ";

[[noreturn]] void malformed(const std::string& what) {
  throw Error(Code::kInput, "malformed CMS: " + what);
}

// X.690 §8.9.1, §8.11.1, §8.12.1: SEQUENCE and SET are constructed. The decoder lets a primitive
// SET pass, and then a changed byte would go unnoticed. REQUIRES nothing of the bytes; moves `at`
// behind the element.
bool well_formed(const unsigned char*& at, const unsigned char* end, int depth) {
  constexpr int kMaxDepth = 30;
  long size = 0;
  int tag = 0;
  int tag_class = 0;
  const int flags = ASN1_get_object(&at, &size, &tag, &tag_class, end - at);
  if ((flags & 0x80) != 0 || depth > kMaxDepth) return false;
  if ((flags & V_ASN1_CONSTRUCTED) == 0) {
    at += size;
    return tag_class != V_ASN1_UNIVERSAL || (tag != V_ASN1_SEQUENCE && tag != V_ASN1_SET);
  }
  const bool indefinite = (flags & 1) != 0;
  const unsigned char* inner_end = indefinite ? end : at + size;
  while (at < inner_end) {
    if (indefinite && inner_end - at >= 2 && at[0] == 0 && at[1] == 0) {
      at += 2;
      return true;
    }
    if (!well_formed(at, inner_end, depth + 1)) return false;
  }
  return !indefinite;
}

bool is_white_space(ByteView bytes) {
  return as_text(bytes).find_first_not_of(kWhiteSpace) == std::string_view::npos;
}

// The one SEQUENCE that the bytes hold, without white space behind it; nullopt: they hold another
// thing.
std::optional<ByteView> whole_element(ByteView bytes) {
  if (bytes.empty() || bytes[0] != kDerSequence) return std::nullopt;
  const unsigned char* at = bytes.data();
  if (!well_formed(at, bytes.data() + bytes.size(), 0)) return std::nullopt;
  const auto size = static_cast<std::size_t>(at - bytes.data());
  if (!is_white_space(bytes.subspan(size))) return std::nullopt;
  return bytes.first(size);
}

bool has_armor(std::string_view text) {
  for (auto at = text.find(kBegin); at != std::string_view::npos; at = text.find(kBegin, at + 1)) {
    if (at == 0 || text[at - 1] == '\n') return true;
  }
  return false;
}

struct Block {
  std::string label;
  Bytes data;
};

// nullopt: there is no further block.
std::optional<Block> next_block(BIO* bio) {
  char* name = nullptr;
  char* header = nullptr;
  unsigned char* data = nullptr;
  long size = 0;
  if (PEM_read_bio(bio, &name, &header, &data, &size) != 1) {
    if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE) return std::nullopt;
    malformed("the PEM block is truncated or corrupt");
  }
  const bool plain = *header == '\0';
  std::optional<Block> block(Block{name, Bytes(data, data + size)});
  OPENSSL_free(name);
  OPENSSL_free(header);
  OPENSSL_free(data);
  if (!plain) malformed("its PEM block has headers");
  return block;
}

Bytes unarmor(std::string_view text) {
  const CleanErrorQueue clean;
  const Owned<BIO> bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  std::optional<Bytes> found;
  while (auto block = next_block(bio.get())) {
    if (block->label != "CMS" && block->label != "PKCS7")
      malformed("the PEM contains a block with a label other than CMS or PKCS7");
    if (found) malformed("the PEM contains several messages; give one at a time");
    found = std::move(block->data);
  }
  if (!found) malformed("the PEM contains no message");
  const auto element = whole_element(*found);
  if (!element || element->size() != found->size()) malformed("the PEM content is not BER or DER");
  return std::move(*found);
}

void refuse_other_encodings(ByteView envelope, std::string_view text) {
  const bool utf16 = envelope.size() > 1 && ((envelope[0] == 0xFF && envelope[1] == 0xFE) ||
                                             (envelope[0] == 0xFE && envelope[1] == 0xFF) ||
                                             envelope[0] == 0 || envelope[1] == 0);
  if (utf16 && envelope[0] != kDerSequence)
    throw Error(Code::kInput, "the envelope is UTF-16 text; save it as UTF-8");
  if (text.starts_with("MIME-Version:") || text.starts_with("Content-Type:")) {
    throw Error(Code::kUnsupported,
                "the envelope is an S/MIME mail; write DER (openssl cms -encrypt -outform DER)");
  }
}

}  // namespace

std::string_view trimmed(std::string_view text) {
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  const auto first = text.find_first_not_of(kWhiteSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kWhiteSpace) - first + 1);
}

Container read_container(ByteView envelope) {
  if (envelope.empty()) throw Error(Code::kInput, "the envelope is empty");
  if (envelope.size() > kMaxEnvelope)
    throw Error(Code::kInput, "the envelope is longer than 180 KiB");
  Container out;
  if (const auto element = whole_element(envelope)) {
    out.format = Format::kCms;
    out.message.assign(element->begin(), element->end());
    return out;
  }
  const std::string_view text = trimmed(as_text(envelope));
  refuse_other_encodings(envelope, text);
  if (has_armor(text)) {
    out.format = Format::kCms;
    out.armored = true;
    out.message = unarmor(text);
    return out;
  }
  if (envelope[0] == kDerSequence) malformed("it is not BER or DER, or has trailing data");
  out.token = text;
  return out;
}

Bytes armor_cms(ByteView der) {
  const CleanErrorQueue clean;
  const Owned<BIO> bio(BIO_new(BIO_s_mem()));
  char* text = nullptr;
  if (!bio || PEM_write_bio(bio.get(), "CMS", "", der.data(), static_cast<long>(der.size())) <= 0) {
    throw Error(Code::kInternal, "OpenSSL: cannot write PEM");
  }
  const long size = BIO_get_mem_data(bio.get(), &text);
  return Bytes(text, text + size);
}

}  // namespace keyagent::envelope
