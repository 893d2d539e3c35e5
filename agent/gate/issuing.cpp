// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/issuing.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/policy/policy.h"

namespace keyagent::gate {
namespace {

using namespace std::chrono_literals;

constexpr auto kSkew = 10min;
constexpr auto kMaxAuthority = std::chrono::hours(24 * 366 * 20);
constexpr std::size_t kMaxId = 63, kMaxHost = 253, kMaxNames = 32, kMaxSerial = 20;
constexpr std::string_view kAuthoritySubject = "/O=keyagent/CN=instance ";

[[noreturn]] void refuse(const std::string& why) {
  throw Error(Code::kDenied, "not certified: " + why);
}

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
}

bool is_id(std::string_view text) {
  return !text.empty() && text.size() <= kMaxId && std::all_of(text.begin(), text.end(), is_plain);
}

bool is_address(const std::string& text) {
  std::array<unsigned char, 16> buffer;
  return inet_pton(AF_INET, text.c_str(), buffer.data()) == 1 ||
         inet_pton(AF_INET6, text.c_str(), buffer.data()) == 1;
}

bool is_host(const std::string& text) {
  return !text.empty() && text.size() <= kMaxHost &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return is_plain(c) || (c >= 'A' && c <= 'Z') || c == '_'; });
}

// Seconds that a file can hold: nothing after the year 2261, nothing before 1970.
WallTime time_of(std::int64_t seconds) {
  constexpr std::int64_t kLast = 9'000'000'000;
  if (seconds < 0 || seconds > kLast) refuse("a time is out of range");
  return WallTime(std::chrono::seconds(seconds));
}

pki::Validity validity_of(std::int64_t from, std::int64_t until, std::chrono::milliseconds longest,
                          const char* what, WallTime now) {
  const pki::Validity out{time_of(from), time_of(until)};
  if (out.not_before > now + kSkew || out.not_before < now - kSkew)
    refuse(std::string(what) + " begins at " + rfc3339(out.not_before) + ", not now");
  if (out.not_after <= out.not_before) refuse(std::string(what) + " ends before it begins");
  if (out.not_after > now + longest)
    refuse(std::string(what) + " would be valid until " + rfc3339(out.not_after) +
           ", which is longer than " +
           std::to_string(std::chrono::duration_cast<std::chrono::hours>(longest).count() / 24) +
           " days");
  return out;
}

void require_client(const wire::EndCertificate& asked, const IssuingRules& rules) {
  if (asked.names_size() != 1 || !is_id(asked.names(0)))
    refuse("a client certificate must name one agent by its id");
  const auto& id = asked.names(0);
  const bool allowed =
      std::any_of(rules.clients.begin(), rules.clients.end(),
                  [&](const auto& pattern) { return policy::matches_name(pattern, id); });
  if (!allowed) refuse("issuing.clients does not name " + id);
}

void require_server(const wire::EndCertificate& asked, const IssuingRules& rules) {
  if (asked.names_size() < 1 || static_cast<std::size_t>(asked.names_size()) > kMaxNames)
    refuse("a server certificate must have 1 to 32 names");
  for (const auto& name : asked.names()) {
    if (!is_host(name) && !is_address(name))
      refuse("'" + escape_controls(name).substr(0, 100) +
             "' is neither a host name nor an address");
    const bool listed =
        std::find(rules.servers.begin(), rules.servers.end(), name) != rules.servers.end();
    if (!rules.servers.empty() && !listed) refuse("issuing.servers does not name " + name);
  }
}

}  // namespace

pki::Validity check_ca_certificate(const wire::CaCertificate& asked, WallTime now) {
  const std::string& subject = asked.subject();
  if (!subject.starts_with(kAuthoritySubject) || !is_id(subject.substr(kAuthoritySubject.size())))
    refuse("the subject of a CA certificate must be " + std::string(kAuthoritySubject) + "ID");
  return validity_of(asked.not_before(), asked.not_after(), kMaxAuthority, "a CA certificate", now);
}

pki::Certified check_certificate(const wire::EndCertificate& asked, const IssuingRules& rules,
                                 WallTime now) {
  pki::Certified out;
  if (asked.use() == "client") {
    require_client(asked, rules);
    out.use = pki::Use::kClient;
  } else if (asked.use() == "server") {
    require_server(asked, rules);
    out.use = pki::Use::kServer;
  } else {
    refuse("a certificate must be for a client or a server");
  }
  out.spki.assign(asked.spki().begin(), asked.spki().end());
  out.subject = "/O=keyagent/CN=" + asked.names(0);
  for (const auto& name : asked.names())
    out.alternative_names.push_back((is_address(name) ? "IP:" : "DNS:") + name);
  out.validity = validity_of(asked.not_before(), asked.not_after(), rules.max_certificate,
                             "a certificate", now);
  out.serial = pki::new_serial();
  return out;
}

CheckedList check_list(const wire::RevocationList& asked, const IssuingRules& rules, WallTime now) {
  CheckedList out;
  out.validity = validity_of(asked.this_update(), asked.next_update(), rules.max_list,
                             "a revocation list", now);
  for (const auto& each : asked.revoked()) {
    const auto& serial = each.serial();
    if (serial.empty() || serial.size() > kMaxSerial)
      refuse("a serial number must have 1 to 20 bytes");
    const WallTime at = time_of(each.at());
    if (at > now + kSkew) refuse("a revocation time is in the future");
    const std::string reason = each.reason().empty() ? "unspecified" : each.reason();
    if (!pki::is_revocation_reason(reason))
      refuse(
          "'" + escape_controls(reason).substr(0, 100) +
          "' is not a supported revocation reason; use unspecified, keyCompromise, cACompromise, "
          "affiliationChanged, superseded or cessationOfOperation");
    out.revoked.push_back({to_hex(as_bytes(serial)), at, reason});
  }
  return out;
}

}  // namespace keyagent::gate
