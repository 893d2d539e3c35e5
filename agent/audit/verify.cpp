#include <openssl/evp.h>
#include <openssl/x509.h>

#include <algorithm>
#include <deque>
#include <fstream>
#include <memory>

#include "agent/audit/audit_log.h"
#include "agent/audit/record.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::audit {
namespace {

// Only what an audit key signs with: ES256 and ES384 (r‖s), EdDSA, RS256 and PS256 through
// OpenSSL's digest-verify.
bool verify_signature(const Bytes& spki, const std::string& algorithm, std::string_view payload,
                      const Bytes& signature) {
  const unsigned char* der = spki.data();
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      d2i_PUBKEY(nullptr, &der, static_cast<long>(spki.size())), EVP_PKEY_free);
  if (!key) return false;
  const EVP_MD* digest = algorithm == "EdDSA"   ? nullptr
                         : algorithm == "ES384" ? EVP_sha384()
                                                : EVP_sha256();
  const bool ecdsa = algorithm == "ES256" || algorithm == "ES384";
  if (ecdsa && signature.size() != (algorithm == "ES256" ? 64u : 96u)) return false;
  const Bytes encoded = ecdsa ? ecdsa_to_der(signature) : signature;
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  EVP_PKEY_CTX* parameters = nullptr;
  if (EVP_DigestVerifyInit(context.get(), &parameters, digest, nullptr, key.get()) != 1)
    return false;
  if (algorithm == "PS256" &&
      (EVP_PKEY_CTX_ctrl_str(parameters, "rsa_padding_mode", "pss") != 1 ||
       EVP_PKEY_CTX_ctrl_str(parameters, "rsa_pss_saltlen", "digest") != 1)) {
    return false;
  }
  const auto bytes = as_bytes(payload);
  return EVP_DigestVerify(context.get(), encoded.data(), encoded.size(), bytes.data(),
                          bytes.size()) == 1;
}

class Verifier {
 public:
  explicit Verifier(const VerifyOptions& options) : options_(options) {}

  // False ends the walk.
  bool take(std::string_view text) {
    const std::uint64_t seq = result_.records;
    const auto line = parse_line(text);
    if (!line) return bad(seq, "is not a record");
    if (!line->hash_fits) return bad(seq, "was changed: its hash does not fit");
    if (line->seq != seq) return bad(seq, "carries number " + std::to_string(line->seq));
    if (line->prev != prev_) return bad(seq, "does not follow the record before it");
    if (line->is_checkpoint && !take_checkpoint(*line, seq)) return false;
    if (external_ && seq == external_->size) {
      external_found_ = line->is_checkpoint && prev_ == external_->hash &&
                        line->signature == external_->signature;
    }
    prev_ = line->hash;
    ++result_.records;
    return true;
  }

  bool set_external(const std::string& text) {
    external_ = parse_external(text);
    if (external_) return true;
    result_.text = "the external checkpoint is not one";
    return false;
  }

  VerifyResult finish(bool complete, bool torn) {
    if (!complete) return result_;
    if (torn) return (bad(result_.records, "is cut in two"), result_);
    if (external_ && !external_fits()) return result_;
    result_.ok = true;
    result_.text = std::to_string(result_.records) + " records chain, " +
                   std::to_string(result_.checkpoints_verified) + " of " +
                   std::to_string(result_.checkpoints) + " checkpoint signatures verified" +
                   (options_.keys.empty() ? " (no audit key at hand)" : "") + external_note();
    return result_;
  }

 private:
  bool bad(std::uint64_t seq, const std::string& what) {
    result_.first_bad_seq = seq;
    result_.text = "record " + std::to_string(seq) + " " + what;
    return false;
  }

  bool take_checkpoint(const Line& line, std::uint64_t seq) {
    ++result_.checkpoints;
    if (line.size != seq) return bad(seq, "is a checkpoint of another place");
    const auto key = options_.keys.find(line.kid);
    if (key == options_.keys.end()) return true;
    if (!verify_signature(key->second, line.algorithm, checkpoint_payload(line.size, line.prev),
                          line.signature)) {
      return bad(seq, "is a checkpoint whose signature does not verify");
    }
    ++result_.checkpoints_verified;
    return true;
  }

  bool external_fits() {
    const auto key = options_.keys.find(external_->kid);
    if (key != options_.keys.end() &&
        !verify_signature(key->second, external_->algorithm,
                          checkpoint_payload(external_->size, external_->hash),
                          external_->signature)) {
      result_.text = "the external checkpoint's signature does not verify";
      return false;
    }
    // The record of a checkpoint is synced before the checkpoint can leave.
    if (result_.records <= external_->size) {
      bad(result_.records,
          "and later ones are missing: a checkpoint of " + std::to_string(external_->size) +
              " records was signed, the log has " + std::to_string(result_.records));
      return false;
    }
    if (!external_found_) {
      bad(external_->size, "is not the external checkpoint, or covers other records");
      return false;
    }
    return true;
  }

  std::string external_note() const {
    if (!external_) return {};
    return std::string(", and the log holds all of the external checkpoint") +
           (options_.keys.contains(external_->kid) ? "" : " (its signature was not checked)");
  }

  const VerifyOptions& options_;
  VerifyResult result_;
  std::string prev_{kGenesis};
  std::optional<External> external_;
  bool external_found_ = false;
};

}  // namespace

VerifyResult verify(const std::filesystem::path& folder, const VerifyOptions& options) {
  Verifier verifier(options);
  if (options.external_checkpoint && !verifier.set_external(*options.external_checkpoint))
    return verifier.finish(false, false);
  std::ifstream in(folder / kLogName, std::ios::binary);
  if (!in && !options.external_checkpoint) {
    throw Error(Code::kConfiguration, "no audit log in " + folder.string());
  }
  std::string line;
  while (std::getline(in, line)) {
    if (in.eof()) return verifier.finish(true, !line.empty());
    if (!verifier.take(line)) return verifier.finish(false, false);
  }
  return verifier.finish(true, false);
}

std::vector<std::string> tail(const std::filesystem::path& folder, std::size_t count) {
  constexpr std::streamoff kBlock = 64 * 1024;
  std::ifstream in(folder / kLogName, std::ios::binary | std::ios::ate);
  std::streamoff begin = in ? std::streamoff(in.tellg()) : 0;
  std::string text;  // the end of the file, from `begin`
  std::size_t newlines = 0;
  // One more newline than lines are wanted, so that the first one is whole.
  while (begin > 0 && newlines <= count) {
    const std::streamoff size = std::min(begin, kBlock);
    std::string block(static_cast<std::size_t>(size), '\0');
    begin -= size;
    in.seekg(begin);
    if (!in.read(block.data(), size)) return {};
    newlines += static_cast<std::size_t>(std::count(block.begin(), block.end(), '\n'));
    text.insert(0, block);
  }
  std::deque<std::string> last;
  std::size_t from = begin == 0 ? 0 : text.find('\n') + 1;
  for (auto to = text.find('\n', from); to != std::string::npos; to = text.find('\n', from)) {
    last.push_back(text.substr(from, to - from));
    if (last.size() > count) last.pop_front();
    from = to + 1;
  }
  return {last.begin(), last.end()};
}

}  // namespace keyagent::audit
