MUTANTS = [
    ("signature-verified", "agent/vault/token_vault.cpp", "if (verify && !pkcs11::verify_signature(", "if (false && !pkcs11::verify_signature(",
     "vault_test", "Fault163"),
    ("second-look-after-destroy", "agent/vault/token_vault.cpp", "  if (find(cka_id)) {\n      throw",
     "  if (false) {\n      throw", "vault_test", "Fault057"),
    ("exchange-born-for-it", "agent/vault/transfer.cpp", "if (key->birth != Birth::kExchangeable) {", "if (false) {",
     "exchange_test", "ExchangeTest"),
]
