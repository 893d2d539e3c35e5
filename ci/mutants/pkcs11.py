MUTANTS = [
    ("token-disk-room", "pkcs11/token.cpp", '      require_token_room(profile, options.state_folder, "C_Login");\n      const', "      const",
     "pkcs11_recovery_test", "Fault167"),
    ("an-attribute-stands-once", "pkcs11/uri.cpp", "  require_unique(text);\n", "", "pki_test", "Reference"),
]
