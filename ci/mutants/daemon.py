# SPDX-License-Identifier: Apache-2.0
MUTANTS = [
    ("root-only-when-told", "agent/daemon/main.cpp", "if (::geteuid() == 0 && !arguments.allow_root)", "if (false)", "daemon_test", "RunsAsRootOnly"),
    ("errors-of-the-configuration-end-the-start", "agent/daemon/main.cpp",
     'if (finding.severity == "error")\n      throw Error(Code::kConfiguration, finding.where + ": " + finding.text + "; " + finding.cure);',
     'if (false)\n      throw Error(Code::kConfiguration, finding.where + ": " + finding.text + "; " + finding.cure);', "daemon_test", "DaemonTrap"),
    ("trusted-hook", "agent/daemon/program.cpp", "  require_trusted(program.path);\n", "", "daemon_test", "HookTest|Hook"),
    ("checkpoint-of-a-hung-token", "agent/daemon/checkpoint_signer.cpp", "if (inside_ || asked_)", "if (false)", "daemon_test", "Fault045"),
    ("hash-of-checkpoints", "agent/daemon/checkpoint_signer.cpp", "if (digest != DigestAlgorithm::kSha256 && digest != DigestAlgorithm::kNone)",
     "if (false)", "daemon_test", "KeyOfAnotherDigest"),
    ("audit-anchor-from-the-instance", "agent/daemon/audit_history.cpp", "  if (instance_) out.push_back(*instance_);\n", "", "audit_anchor_test", "Fault138"),
    ("server-outlives-its-users", "agent/daemon/daemon.cpp", "  if (server) server->stop();", "  server.reset();", "daemon_test", "DaemonStop.Fault010_WhatIsAsked"),
    ("comparisons-are-paced", "agent/daemon/audit_history.cpp", "if (compared_at_ && now < *compared_at_ + kBetweenComparisons) return;\n", "", "daemon_test", "Comparisons"),
    ("same-history-fault-is-told-once", "agent/daemon/audit_history.cpp", "if (std::exchange(told_, instance_fault_) == instance_fault_ || result.ok) return;",
     "if (result.ok) return;", "daemon_test", "Comparisons"),
    ("malformed-checkpoints-are-paced", "agent/daemon/audit_history.cpp", 'if (limiter_.admit("malformed"))', "if (true)", "daemon_test", "Comparisons"),
]
