MUTANTS = [
    ("room-of-a-record", "agent/audit/audit_log.cpp", "    promised += kRoomOfOne;\n", "", "audit_log_test", "Fault166"),
    ("unknown-audit-key", "agent/audit/verify.cpp", "if (key == options_.keys.end()) {", "if (key == options_.keys.end()) return true;\n    if (false) {",
     "audit_verify_test", "Fault157"),
    ("audit-anchor", "agent/audit/verify.cpp", "for (const auto& anchor : options.anchors)", "for (const auto& anchor : std::vector<Anchor>{})",
     "audit_verify_test", "Fault157"),
]
