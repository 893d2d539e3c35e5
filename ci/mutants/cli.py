# SPDX-License-Identifier: Apache-2.0
MUTANTS = [
    ("destroy-asks-the-kid", "agent/cli/commands/cmd_key.cpp", "if (typed != kid)", "if (false)", "cli_test", "CliTest.KeysAreMade|R12_DestroyingOnATerminal"),
    ("destroy-needs-a-terminal", "agent/cli/commands/cmd_key.cpp", "if (::isatty(STDIN_FILENO) == 0)", "if (false)", "cli_test",
     "CliTest.KeysAreMade|R12_DestroyingOnATerminal"),
    ("tokens-are-no-arguments", "agent/cli/commands/cmd_link.cpp", "  if (!wish.token.empty()) {", "  if (false) {", "host_link_test",
     "R2_TokenAsAnArgument"),
    ("wrong-signature-is-said", "agent/cli/commands/cmd_sign.cpp", "if (!good)", "if (false)", "cli_test", "ASignatureVerifies"),
    ("no-private-key-for-sealing", "agent/cli/commands/public_file.cpp", 'if (block.label.find("PRIVATE KEY") != std::string::npos)', "if (false)",
     "cli_test", "CliTest|EveryWrongInput"),
    ("help-of-each-option", "agent/cli/instance/cmd_instance_exchange.cpp", '"re-encrypt the data with new keys after the import"', '"hours between recurring requests (24)"', "cli_test",
     "Help.EachOption"),
    ("leftovers-of-a-login", "agent/cli/instance/instance_client.cpp", "  remove_leftovers(path.parent_path(), path.filename().string(), std::chrono::hours(1));\n", "",
     "instance_test", "Fault041_ALogin"),
]
