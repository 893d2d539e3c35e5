MUTANTS = [
    ("age-of-cached-credentials", "agent/link/contact.cpp", "seen_ - contact_ > limit()", "false", "link_state_test",
     "ContactTest"),
    ("name-of-a-credential", "agent/link/credential_versions.cpp", "if (is.credential != sealed.name)", "if (false)", "link_test",
     "Fault158"),
    ("version-of-a-credential", "agent/link/credential_versions.cpp", "if (seen && sealed.version < seen->version) {",
     "if (false) {", "link_test", "Fault158"),
    ("grant-of-a-task", "agent/link/tasks.cpp",
     "if (entry.stage != Stage::kStarted || !equal_secret(as_bytes(shown), as_bytes(entry.grant)))",
     "if (entry.stage != Stage::kStarted)", "link_test", "Fault161"),
]
