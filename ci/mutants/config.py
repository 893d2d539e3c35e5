# SPDX-License-Identifier: Apache-2.0
MUTANTS = [
    ("clients-that-are-certified", "agent/config/config.cpp", '  require_patterns(issuing, "clients", out.clients, "*");\n', "", "config_test",
     "Fault144"),
    ("servers-that-are-certified", "agent/config/config.cpp",
     '  require_patterns(issuing, "servers", out.servers, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_:");\n', "", "config_test", "Fault144"),
]
