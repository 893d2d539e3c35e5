// SPDX-License-Identifier: Apache-2.0
#include "agent/link/contact.h"

#include <algorithm>
#include <charconv>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"

namespace keyagent::link {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr auto kSaveEvery = 10min;

WallTime time_or(const std::string& text, WallTime otherwise) {
  try {
    return text.empty() ? otherwise : parse_rfc3339(text);
  } catch (const Error&) {
    return otherwise;
  }
}

milliseconds milliseconds_in(const std::string& text) {
  long long value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return milliseconds(std::max(0LL, value));
}

std::string span_of(milliseconds span) {
  return keys::span_text(span);
}

}  // namespace

LastContact::LastContact(const LinkContext& around, LinkStore& store)
    : context_(around), store_(store) {
  const auto now = context_.clock->now();
  const auto state = store_.get();
  contact_ = state ? time_or(state->contact, now) : now;
  seen_ = std::max(now, state ? time_or(state->seen, now) : now);
  theirs_ = state ? milliseconds_in(state->credential_limit) : 0ms;
  steady_ = context_.clock->now_steady();
  if (state && state->contact.empty()) write();
}

milliseconds LastContact::limit() const {
  return theirs_ > 0ms ? std::min(theirs_, context_.credential_max_age)
                       : context_.credential_max_age;
}

void LastContact::advance() {
  const auto steady = context_.clock->now_steady();
  seen_ = std::max(context_.clock->now(), seen_ + (steady - steady_));
  steady_ = steady;
}

void LastContact::write() {
  try {
    store_.update([this](LinkState& state) REQUIRES(mutex_) {
      state.contact = rfc3339(contact_);
      state.seen = rfc3339(seen_);
      state.credential_limit = theirs_ > 0ms ? std::to_string(theirs_.count()) : "";
    });
    written_ = seen_;
  } catch (const Error& error) {
    log_warning("link", std::string("the last contact could not be recorded: ") + error.what());
  }
}

void LastContact::acknowledged(milliseconds limit) {
  const MutexLock lock(mutex_);
  const auto before = contact_;
  contact_ = seen_ = context_.clock->now();
  steady_ = context_.clock->now_steady();
  const bool other = limit > 0ms && limit != theirs_;
  if (limit > 0ms) theirs_ = limit;
  const auto passed = contact_ - written_;
  const auto state = store_.get();
  if (other || (state && state->contact.empty()) || passed >= kSaveEvery || passed < 0ms ||
      contact_ < before)
    write();
}

void LastContact::save() {
  const MutexLock lock(mutex_);
  advance();
  if (seen_ - written_ >= kSaveEvery) write();
}

LastContact::Age LastContact::age() {
  const MutexLock lock(mutex_);
  advance();
  return {contact_, contact_ + limit(), seen_ - contact_ > limit(), limit()};
}

void LastContact::require_fresh(const std::string& name) {
  const Age now = age();
  if (!now.expired) return;
  throw Error(Code::kKeyState,
              "the cached credential " + name + " is too old: the instance was last reached at " +
                  rfc3339(now.last) + ", more than " + span_of(now.limit) +
                  " ago (link.credential-max-age); restore the link: keyagent status");
}

}  // namespace keyagent::link
