MUTANTS = [
    ("a-name-is-one-name", "agent/pki/alternative_names.cpp",
     "      if (const char* fault = kind.fault(value)) refuse(name, fault);\n", "", "pki_test", "Fault175"),
]
