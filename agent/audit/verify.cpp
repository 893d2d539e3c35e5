// SPDX-License-Identifier: Apache-2.0
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <algorithm>
#include <deque>
#include <fstream>
#include <memory>
#include <vector>

#include "agent/audit/audit_log.h"
#include "agent/audit/record.h"
#include "agent/base/disk.h"
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

// A checkpoint that is known from elsewhere and must be in the log as a record.
struct Expected {
  std::string what;  // "the external checkpoint"
  External checkpoint;
  bool is_signed = true;
  bool found = false;
};

class Verifier {
 public:
  explicit Verifier(const VerifyOptions& options) : options_(options) {
    for (const auto& anchor : options.anchors)
      expected_.push_back({"the checkpoint that " + anchor.where + " keeps",
                           {anchor.size, anchor.hash, anchor.kid, {}, {}},
                           false});
  }

  bool is_done() const { return result_.records >= limit_; }

  // False ends the walk.
  bool take(std::string_view text) {
    const std::uint64_t seq = result_.records;
    const auto line = parse_line(text);
    if (!line) return bad(seq, "is not a record");
    if (!line->hash_fits) return bad(seq, "was changed: its hash does not match");
    if (line->seq != seq) return bad(seq, "carries number " + std::to_string(line->seq));
    if (line->prev != prev_) return bad(seq, "does not follow the record before it");
    if (line->is_checkpoint && !take_checkpoint(*line, seq)) return false;
    for (auto& each : expected_) {
      if (seq != each.checkpoint.size) continue;
      each.found = line->is_checkpoint && prev_ == each.checkpoint.hash &&
                   (!each.is_signed || line->signature == each.checkpoint.signature);
    }
    prev_ = line->hash;
    ++result_.records;
    return true;
  }

  bool set_external(const std::string& text) {
    return expect("the external checkpoint", parse_external(text));
  }
  // The newest may be of records that came after those that the caller asks for.
  bool set_beside(const std::string& text) {
    beside_ = true;
    const auto checkpoint = parse_external(text);
    if (checkpoint && limit_ != UINT64_MAX) limit_ = std::max(limit_, checkpoint->size + 1);
    return expect(std::string(kCheckpointName), checkpoint);
  }

  VerifyResult finish(bool complete, bool torn) {
    if (!complete) return result_;
    if (torn) return (bad(result_.records, "is truncated"), result_);
    for (const auto& each : expected_)
      if (!fits(each)) return result_;
    const std::uint64_t excused = options_.after_crash ? 1 : 0;
    if (!beside_ && result_.checkpoints > excused) {
      result_.text = std::string(kCheckpointName) + " is missing, and the log has " +
                     std::to_string(result_.checkpoints) + " checkpoints";
      return result_;
    }
    result_.ok = true;
    result_.text = std::to_string(result_.records) + " records chain, " +
                   std::to_string(result_.checkpoints_verified) + " of " +
                   std::to_string(result_.checkpoints) + " checkpoint signatures verified" + note();
    return result_;
  }

 private:
  bool bad(std::uint64_t seq, const std::string& what) {
    result_.first_bad_seq = seq;
    result_.text = "record " + std::to_string(seq) + " " + what;
    return false;
  }

  bool expect(const std::string& what, const std::optional<External>& checkpoint) {
    if (!checkpoint) {
      result_.text = what + " is not a checkpoint";
      return false;
    }
    expected_.push_back({what, *checkpoint});
    return true;
  }

  bool take_checkpoint(const Line& line, std::uint64_t seq) {
    ++result_.checkpoints;
    if (line.size != seq) return bad(seq, "is a checkpoint of another position in the log");
    const auto key = options_.keys.find(line.kid);
    if (key == options_.keys.end()) {
      return bad(seq,
                 options_.keys.empty()
                     ? "is a checkpoint, and no audit key was given to verify it: --public FILE"
                     : "is a checkpoint by an unknown key, kid " + escape_controls(line.kid));
    }
    if (!verify_signature(key->second, line.algorithm, checkpoint_payload(line.size, line.prev),
                          line.signature)) {
      return bad(seq, "is a checkpoint whose signature does not verify");
    }
    ++result_.checkpoints_verified;
    return true;
  }

  // An anchor is trusted by its location, any other checkpoint by its signature.
  bool is_genuine(const Expected& each) const {
    if (!each.is_signed) return true;
    const auto key = options_.keys.find(each.checkpoint.kid);
    return key != options_.keys.end() &&
           verify_signature(key->second, each.checkpoint.algorithm,
                            checkpoint_payload(each.checkpoint.size, each.checkpoint.hash),
                            each.checkpoint.signature);
  }

  bool fits(const Expected& each) {
    if (!is_genuine(each)) {
      result_.text = each.what + "'s signature does not verify";
      return false;
    }
    // The record of a checkpoint is synced before the checkpoint can leave.
    if (result_.records <= each.checkpoint.size) {
      bad(result_.records, "and later ones are missing: " + each.what + " is of " +
                               std::to_string(each.checkpoint.size) + " records, the log has " +
                               std::to_string(result_.records));
      return false;
    }
    if (!each.found) {
      bad(each.checkpoint.size, "is not " + each.what + ", or covers other records");
      return false;
    }
    return true;
  }

  std::string note() const {
    std::string text;
    for (const auto& each : expected_) {
      if (each.what != kCheckpointName) text += ", and the log holds " + each.what;
    }
    return text;
  }

  const VerifyOptions& options_;
  VerifyResult result_;
  std::string prev_{kGenesis};
  std::uint64_t limit_ = options_.records;
  std::vector<Expected> expected_;
  bool beside_ = false;
};

}  // namespace

VerifyResult verify(const std::filesystem::path& folder, const VerifyOptions& options) {
  Verifier verifier(options);
  if (options.external_checkpoint && !verifier.set_external(*options.external_checkpoint))
    return verifier.finish(false, false);
  const auto beside = folder / kCheckpointName;
  if (std::filesystem::exists(beside) &&
      !verifier.set_beside(std::string(as_text(read_file(beside)))))
    return verifier.finish(false, false);
  std::ifstream in(folder / kLogName, std::ios::binary);
  if (!in && !options.external_checkpoint && options.anchors.empty()) {
    throw Error(Code::kConfiguration, "no audit log in " + folder.string());
  }
  std::string line;
  while (!verifier.is_done() && std::getline(in, line)) {
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
