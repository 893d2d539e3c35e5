# SPDX-License-Identifier: Apache-2.0
MUTANTS = [
    ("pinned-key-of-the-peer", "agent/tls/verify.cpp", "if (expected.kid.empty() || kid == expected.kid) return std::nullopt;",
     "if (true) return std::nullopt;", "tls_test", "T5_AServerWithAnother"),
    ("chain-of-the-peer", "agent/tls/verify.cpp", "  if (!refused && X509_verify_cert(store) != 1) refused = refusal(store, expected);",
     "  X509_verify_cert(store);", "tls_test", "Refused.T5_AServerIs|Refused.T6"),
    ("purpose-of-the-peer", "agent/tls/verify.cpp", "  if (!has_purpose(leaf, expected.side)) {", "  if (false) {", "tls_test",
     "Refused.T5_AServerIs|Refused.T6"),
    ("pinned-root", "agent/tls/verify.cpp", "    if (seen != expected.anchor_spki) continue;\n", "", "tls_test", "T5_ARootWith"),
    ("host-by-its-san", "agent/tls/verify.cpp", "X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | ", "", "tls_test", "T5_AHostIsNamed"),
    ("revocation-during-the-handshake", "agent/tls/session.cpp", "  if (&now == context_.get()) return std::nullopt;",
     "  if (&now != nullptr) return std::nullopt;", "tls_test", "Fault130_ARevocation"),
    ("control-characters-in-a-path", "agent/tls/http.cpp", "if (escape_controls(request.path) != request.path)", "if (false)", "tls_test",
     "MalformedRequestIsAnswered"),
    ("messages-of-a-link-are-bounded", "agent/tls/link.cpp", "messages_.size() >= kLongestQueue", "false", "tls_test", "Fault127_MessagesThatThePeerDoesNotRead"),
    ("places-of-an-address", "agent/tls/address_places.cpp", "if (of(address) >= per_address_)", "if (false)", "tls_test", "Fault152"),
    ("room-at-any-address", "agent/tls/address_places.cpp", "connections\")) return true;\n", "connections\")) return true;\n    break;\n", "tls_test", "Fault152"),
    ("turns-of-handshakes", "agent/tls/handshake_queue.h", "        turns_.push_back(address);\n      --free_;", "        turns_.push_front(address);\n      --free_;", "tls_test", "Fault152"),
]
