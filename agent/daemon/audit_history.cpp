// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/audit_history.h"

#include <fmt/format.h>

#include <charconv>
#include <sstream>
#include <utility>

#include "agent/audit/record.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/wire/diagnosis.h"

namespace keyagent::daemon {
namespace {

constexpr const char* kFact = "audit-anchor";
constexpr std::chrono::minutes kBetween{1};
// One object that a working token does not read is damaged; the others were read.
constexpr int kMaxUnread = 3;
constexpr std::uintmax_t kReadByDoctor = 16 << 20;  // a longer log is for `keyagent audit verify`

// Of one width, so that the greater text is the newer one (TokenVault::read_fact).
std::string text_of(const audit::Anchor& anchor) {
  return fmt::format("{:020} {} {}", anchor.size, anchor.hash, anchor.kid);
}

std::optional<audit::Anchor> parse(const std::string& text, const char* where) {
  std::istringstream in(text);
  audit::Anchor anchor;
  anchor.where = where;
  std::string size;
  in >> size >> anchor.hash >> anchor.kid;
  const auto end = size.data() + size.size();
  if (!in || std::from_chars(size.data(), end, anchor.size).ptr != end) return std::nullopt;
  return anchor;
}

}  // namespace

AuditHistory::AuditHistory(audit::AuditLog& audit, keys::KeyStore& keys, vault::TokenVault& vault,
                           std::filesystem::path folder, keys::EventSink tell, const Clock& clock)
    : audit_(audit),
      keys_(keys),
      vault_(vault),
      folder_(std::move(folder)),
      tell_(std::move(tell)),
      clock_(clock) {}

audit::VerifyResult AuditHistory::verify(bool with_anchor, bool after_crash) const {
  audit::VerifyOptions options;
  for (const auto& key : keys_.list())
    if (key.purpose == Purpose::kAudit) options.keys[key.kid.text()] = key.spki;
  options.records = audit_.size();
  options.after_crash = after_crash;
  if (with_anchor) options.anchors = anchors();
  try {
    return audit::verify(folder_, options);
  } catch (const Error& error) {
    audit::VerifyResult result;
    result.text = error.what();
    return result;
  }
}

std::optional<std::string> AuditHistory::read_anchor() {
  try {
    return vault_.read_fact(kFact).value_or("");
  } catch (const Error& error) {
    const bool works = vault_.token().status().state == pkcs11::TokenState::kUp;
    const bool fails = error.code() == Code::kTokenFault && (!works || ++unread_ < kMaxUnread);
    if (fails || (error.code() != Code::kTokenFault && error.code() != Code::kIntegrity)) throw;
    const MutexLock lock(mutex_);
    fault_ = error.what();
    return std::nullopt;
  }
}

void AuditHistory::check_at_start() {
  {
    const MutexLock lock(mutex_);
    if (checked_) return;
  }
  // A token fault ends this here: the check is still to be done.
  const bool in_token = vault_.keeps_facts();
  const auto text = in_token ? read_anchor() : keys_.noted(kFact);
  if (text && !text->empty()) {
    auto anchor = parse(*text, in_token ? "the token" : "the ledger");
    const MutexLock lock(mutex_);
    anchor_ = anchor;
    if (!anchor)
      fault_ = "the token's copy of the newest checkpoint, its data object " + std::string(kFact) +
               ", is not a checkpoint";
  }
  const auto result = verify(true, true);
  const MutexLock lock(mutex_);
  checked_ = true;
  if (fault_.empty() && !result.ok) fault_ = result.text;
  if (fault_.empty()) return;
  tell_({keys::KeyEvent::Weight::kAlarm,
         "audit.history",
         {},
         {},
         "internal:audit",
         std::string(code_name(Code::kIntegrity)),
         fault_});
}

void AuditHistory::write(const std::string& checkpoint) {
  const auto newest = audit::parse_external(checkpoint);
  if (!newest) return;
  const bool in_token = vault_.keeps_facts();
  const audit::Anchor anchor{in_token ? "the token" : "the ledger", newest->size, newest->hash,
                             newest->kid};
  if (in_token) {
    vault_.write_fact(kFact, text_of(anchor));
  } else {
    keys_.note(kFact, text_of(anchor));
  }
  const MutexLock lock(mutex_);
  anchor_ = anchor;
}

void AuditHistory::anchor(bool now) {
  const auto checkpoint = audit_.newest_checkpoint();
  {
    const MutexLock lock(mutex_);
    const auto time = clock_.now_steady();
    if (!checked_ || !fault_.empty() || checkpoint.empty() || (!now && time < next_)) return;
    next_ = time + kBetween;
    const auto newest = audit::parse_external(checkpoint);
    if (newest && anchor_ && newest->size <= anchor_->size) return;
  }
  try {
    write(checkpoint);
  } catch (const Error& error) {
    log_warning("audit", std::string("the newest checkpoint could not be written to the token: ") +
                             error.what());
  }
}

std::string AuditHistory::accept() {
  {
    const MutexLock lock(mutex_);
    if (fault_.empty()) return {};
  }
  const auto checkpoint = audit_.checkpoint();
  const auto result = verify(false, false);
  if (!result.ok || !checkpoint) return "the audit log is not accepted: " + result.text;
  if (vault_.keeps_facts()) vault_.erase_fact(kFact);
  write(*checkpoint);
  const MutexLock lock(mutex_);
  return "the audit log is accepted in its present state; it was: " + std::exchange(fault_, {});
}

std::optional<std::string> AuditHistory::offer() {
  const MutexLock lock(mutex_);
  if (!heard_ || !checked_) return std::nullopt;
  // Its operator may have accepted the log.
  if (!instance_fault_.empty()) return std::string();
  if (!compared_ || !fault_.empty()) return std::nullopt;
  auto checkpoint = audit_.newest_checkpoint();
  const auto newest = audit::parse_external(checkpoint);
  if (!newest || (instance_ && newest->size <= instance_->size)) return std::nullopt;
  offered_ = audit::Anchor{{}, newest->size, newest->hash, newest->kid};
  return checkpoint;
}

void AuditHistory::hear(const std::optional<std::string>& checkpoint) {
  const auto said = checkpoint ? audit::parse_external(*checkpoint) : std::nullopt;
  if (checkpoint && !said) {
    if (limiter_.admit("malformed"))
      log_warning("audit", "the checkpoint that the instance keeps is not one");
    return;
  }
  const MutexLock lock(mutex_);
  heard_ = true;
  if (!said) {
    if (!instance_fault_.empty())
      log_info(
          "audit",
          "the instance compares the audit log with no earlier checkpoint anymore: it accepted the "
          "log, or the agent was enrolled again");
    instance_.reset();
    instance_fault_.clear();
    compared_ = true;
    return;
  }
  const auto is_said = [&](const std::optional<audit::Anchor>& each) {
    return each && each->size == said->size && each->hash == said->hash;
  };
  // One of this run is in the log.
  if (!is_said(instance_)) compared_ = is_said(offered_);
  instance_ = audit::Anchor{"the instance", said->size, said->hash, said->kid};
}

void AuditHistory::compare() {
  std::optional<audit::Anchor> said;
  {
    const MutexLock lock(mutex_);
    if (!checked_ || !instance_ || compared_) return;
    const auto now = clock_.now_steady();
    if (compared_at_ && now < *compared_at_ + kBetweenComparisons) return;
    compared_at_ = now;
    said = instance_;
  }
  const auto result = verify(true, true);
  const MutexLock lock(mutex_);
  // The instance may have sent another one while the log was read, or that it has none.
  if (!instance_) return;
  const bool newest = instance_->size == said->size && instance_->hash == said->hash;
  if (!newest && result.ok) return;
  compared_ = newest;
  instance_fault_ = result.ok ? std::string() : result.text;
  if (std::exchange(told_, instance_fault_) == instance_fault_ || result.ok) return;
  tell_({keys::KeyEvent::Weight::kAlarm,
         "audit.history",
         {},
         {},
         "internal:audit",
         std::string(code_name(Code::kIntegrity)),
         "the log is not the one that the instance knows: " + result.text});
}

std::vector<audit::Anchor> AuditHistory::anchors() const {
  const MutexLock lock(mutex_);
  std::vector<audit::Anchor> out;
  if (anchor_) out.push_back(*anchor_);
  if (instance_) out.push_back(*instance_);
  return out;
}

std::vector<wire::Diagnosis> AuditHistory::diagnose() const {
  std::string fault;
  bool at_instance = false;
  {
    const MutexLock lock(mutex_);
    at_instance = !instance_fault_.empty();
    fault = fault_.empty() ? instance_fault_ : fault_;
  }
  std::error_code error;
  const auto size = std::filesystem::file_size(folder_ / audit::kLogName, error);
  if (fault.empty() && (error || size <= kReadByDoctor)) {
    if (const auto result = verify(true, true); !result.ok) fault = result.text;
  }
  if (fault.empty()) return {};
  return {wire::make_diagnosis(
      at_instance ? finding_kind("audit-history-instance") : finding_kind("audit-history"),
      "the audit log does not verify: " + fault, {}, folder_.string())};
}

}  // namespace keyagent::daemon
