MUTANTS = [
    ("cbc-content-by-default", "agent/envelope/open.cpp", "if (!authenticated && !key.accepts_cbc) {", "if (false) {",
     "envelope_test", "Fault156"),
    ("content-of-one-kind", "agent/envelope/open.cpp", "if (authenticated && key.accepts_cbc) {", "if (false) {", "envelope_test",
     "Fault156"),
]
