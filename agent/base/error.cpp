// SPDX-License-Identifier: Apache-2.0
#include "agent/base/error.h"

#include <algorithm>
#include <array>

namespace keyagent {

namespace {

struct Row {
  Code code;
  std::string_view name;
  Layer layer;
  int exit;
  bool retryable;
};

constexpr std::array kTable{
    Row{Code::kOk, "OK", Layer::kAgent, 0, false},
    Row{Code::kUsage, "USAGE", Layer::kCaller, 2, false},
    Row{Code::kConfiguration, "CONFIGURATION", Layer::kConfiguration, 2, false},
    Row{Code::kUnsupported, "UNSUPPORTED", Layer::kToken, 3, false},
    Row{Code::kDenied, "DENIED", Layer::kPolicy, 3, false},
    Row{Code::kKeyState, "KEY_STATE", Layer::kKey, 3, false},
    Row{Code::kKeyNotPresent, "KEY_NOT_PRESENT", Layer::kKey, 3, false},
    Row{Code::kExists, "EXISTS", Layer::kKey, 3, false},
    Row{Code::kConfirm, "CONFIRM", Layer::kCaller, 3, false},
    Row{Code::kTokenFault, "TOKEN_FAULT", Layer::kToken, 4, true},
    Row{Code::kTokenAbsent, "TOKEN_ABSENT", Layer::kToken, 4, true},
    Row{Code::kTokenStuck, "TOKEN_STUCK", Layer::kToken, 4, true},
    Row{Code::kTokenFull, "TOKEN_FULL", Layer::kToken, 4, false},
    Row{Code::kKeyLost, "KEY_LOST", Layer::kKey, 4, false},
    Row{Code::kPinRefused, "PIN_REFUSED", Layer::kToken, 4, false},
    Row{Code::kPinLocked, "PIN_LOCKED", Layer::kToken, 4, false},
    Row{Code::kBusy, "BUSY", Layer::kAgent, 4, true},
    Row{Code::kDeadline, "DEADLINE", Layer::kToken, 4, true},
    Row{Code::kPeer, "PEER", Layer::kPeer, 5, true},
    Row{Code::kInput, "INPUT", Layer::kIntegrity, 6, false},
    Row{Code::kIntegrity, "INTEGRITY", Layer::kIntegrity, 6, false},
    Row{Code::kPartial, "PARTIAL", Layer::kAgent, 7, false},
    Row{Code::kInternal, "INTERNAL", Layer::kAgent, 4, false},
    Row{Code::kPeerUntrusted, "PEER_UNTRUSTED", Layer::kPeer, 6, false},
    Row{Code::kPeerExpired, "PEER_EXPIRED", Layer::kPeer, 6, false},
    Row{Code::kPeerNotYetValid, "PEER_NOT_YET_VALID", Layer::kPeer, 6, false},
    Row{Code::kPeerPurpose, "PEER_PURPOSE", Layer::kPeer, 6, false},
    Row{Code::kPeerNoCertificate, "PEER_NO_CERTIFICATE", Layer::kPeer, 6, false},
    Row{Code::kPeerName, "PEER_NAME", Layer::kPeer, 6, false},
    Row{Code::kPeerKey, "PEER_KEY", Layer::kPeer, 6, false},
    Row{Code::kPeerRevoked, "PEER_REVOKED", Layer::kPeer, 6, false},
    Row{Code::kRefusedByPeer, "REFUSED_BY_PEER", Layer::kPeer, 6, false},
};

// The table is indexed by the wire value; a code out of range is a defect and reads as one.
const Row& row_of(Code code) {
  const auto index = static_cast<std::size_t>(code);
  return kTable[index < kTable.size() ? index : static_cast<std::size_t>(Code::kInternal)];
}

constexpr bool table_is_indexed_by_code() {
  for (std::size_t i = 0; i < kTable.size(); ++i) {
    if (static_cast<std::size_t>(kTable[i].code) != i) return false;
  }
  return true;
}
static_assert(table_is_indexed_by_code());

constexpr std::array<std::string_view, 8> kLayers{"caller", "configuration", "policy",    "key",
                                                  "token",  "peer",          "integrity", "agent"};

}  // namespace

std::string_view code_name(Code code) {
  return row_of(code).name;
}

Code code_of_name(std::string_view name) {
  const auto* row =
      std::find_if(kTable.begin(), kTable.end(), [&](const Row& r) { return r.name == name; });
  return row == kTable.end() ? Code::kInternal : row->code;
}

Layer layer_of(Code code) {
  return row_of(code).layer;
}

std::string_view layer_name(Layer layer) {
  return kLayers.at(static_cast<std::size_t>(layer));
}

int exit_code(Code code) {
  return row_of(code).exit;
}

bool retryable(Code code) {
  return row_of(code).retryable;
}

void throw_input_error() {
  throw Error(Code::kInput, "the envelope cannot be opened with this key");
}

}  // namespace keyagent
