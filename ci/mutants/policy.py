MUTANTS = [
    ("credentials-of-a-handler", "agent/policy/decide.cpp", "if (rule.credentials.empty()) return !rule.allow;",
     "if (rule.credentials.empty()) return true;", "policy_test", "Fault161"),
]
