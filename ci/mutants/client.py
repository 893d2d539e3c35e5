# SPDX-License-Identifier: Apache-2.0
MUTANTS = [
    ("old-root-directory", "agent/client/channel.cpp", "!root->left()", "true", "e2e_test", "Fault174"),
    ("who-listens-at-the-path", "agent/client/channel.cpp", "if (server.uid != 0 && server.uid != ::geteuid() && !owner)", "if (false)",
     "client_test", "Fault113"),
    ("changes-are-sent-once", "agent/client/client.cpp", "        if (!std::exchange(repeat, false))", "        if (false)", "client_test",
     "Fault126", "hangs"),
    ("connection-of-a-fork", "agent/client/client.cpp", "    if (current && current->process() != ::getpid()) {", "    if (false) {", "client_test",
     "Fault125"),
]
