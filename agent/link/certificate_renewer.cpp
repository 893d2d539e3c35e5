// SPDX-License-Identifier: Apache-2.0
#include "agent/link/certificate_renewer.h"

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/link/renewal.h"

namespace keyagent::link {
namespace {

using namespace std::chrono_literals;

constexpr auto kEvery = 1min;
// How long to wait before a refused renewal is requested again.
constexpr auto kAgain = 1h;

}  // namespace

void CertificateRenewer::look() {
  const auto state = store_.get();
  const auto now = context_.clock->now_steady();
  if (!state || state->stage != LinkState::Stage::kTrusted || now < next_look_) return;
  next_look_ = now + kEvery;
  const auto key = keys_.show(state->auth_key);
  const std::string& kid = key.kid();
  // Also when `automatic` is off: without this key there is no link to rekey it over (RELIABILITY
  // 165).
  if (key.past_period()) renew(*state, kid, "its cryptoperiod is over", now);
  const auto chain = state->certificates.find(kid);
  if (chain == state->certificates.end()) return;
  const Leaf leaf = leaf_of(certificates_of_pem(chain->second).front());
  if (context_.clock->now() < renew_at(leaf, kid)) return;
  renew(*state, kid, "its certificate is at two thirds of its life", now);
  if (const auto days = days_left(leaf, context_.clock->now()))
    warn(*state, kid, *days, leaf.not_after);
}

void CertificateRenewer::renew(const LinkState& state, const std::string& kid, const char* why,
                               SteadyTime now) {
  if (now < next_renewal_) return;
  next_renewal_ = now + kAgain;
  wire::Request request;
  request.mutable_rekey()->set_name(state.auth_key);
  request.mutable_rekey()->set_reason(why);
  try {
    // Joins the one that is in progress.
    keys_.gate().call(std::move(request));
  } catch (const Error& error) {
    log_error("link", "the certificate of kid=" + kid + " could not be renewed: " + error.what());
  }
}

void CertificateRenewer::warn(const LinkState& state, const std::string& kid, int days,
                              WallTime end) {
  const std::string mark = kid + " " + std::to_string(days);
  if (warned_ == mark || !context_.tell) return;
  warned_ = mark;
  keys::KeyEvent happening;
  happening.weight = days <= 1 ? keys::KeyEvent::Weight::kAlarm : keys::KeyEvent::Weight::kWarning;
  happening.what = "link.certificate-ends";
  happening.key = state.auth_key;
  happening.kid = kid;
  happening.actor = "internal:link";
  happening.outcome = code_name(Code::kPeer);
  happening.detail = (days == 0 ? std::string("it has expired")
                                : "less than " + std::to_string(days) + " d are left") +
                     ", until " + rfc3339(end) + ", and it could not be renewed";
  context_.tell(happening);
}

}  // namespace keyagent::link
