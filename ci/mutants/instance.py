MUTANTS = [
    ("second-person", "agent/instance/common/decisions.cpp", "if (decision.requested_by == person.name) {\n    const auto event",
     "if (false) {\n    const auto event", "instance_tasks_test", "Fault159"),
    ("decision-looked-at-again", "agent/instance/common/decisions.cpp",
     "if (handler.precondition(decision.subject, request).dump() != decision.precondition)", "if (false)", "instance_tasks_test",
     "Fault159"),
    ("pause-after-wrong-passwords", "agent/instance/common/users.cpp", "if (left <= 0ms) return;", "return;", "instance_tasks_test",
     "Fault151"),
    ("share-of-the-hashing-places", "agent/instance/common/hashing_places.cpp", "found->second < share", "true", "instance_tables_test",
     "Fault151"),
    ("version-of-a-record", "agent/instance/data/records.cpp", "std::to_string(version) + \"\\n\";", "\"1\\n\";", "records_test",
     "Fault158"),
]
