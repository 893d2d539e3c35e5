# SPDX-License-Identifier: Apache-2.0
MUTANTS = [
    ("handler-program-is-executable", "agent/worker/worker_config.cpp", "if ((info.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) == 0)", "if (false)",
     "host_link_test", "InvalidFileIsRefused"),
    ("root-names-a-user", "agent/worker/worker_config.cpp",
     "if (root) refuse(reader.where(), \"the worker runs as root: set the 'user' of its handlers\");",
     "if (false) refuse(reader.where(), \"the worker runs as root: set the 'user' of its handlers\");", "host_link_test", "InvalidFileIsRefused"),
    ("users-of-handlers-need-root", "agent/worker/worker_config.cpp", "if (user.uid != ::geteuid())", "if (false)", "host_link_test",
     "InvalidFileIsRefused"),
    ("handlers-poll-in-bounds", "agent/worker/worker_config.cpp", "if (config.poll < 20ms || config.poll > 60s)", "if (false)", "host_link_test",
     "InvalidFileIsRefused"),
    ("a-file-names-handlers", "agent/worker/worker_config.cpp", "if (config.handlers.empty())", "if (false)", "host_link_test", "InvalidFileIsRefused"),
    ("time-of-a-handler", "agent/worker/worker_handler.cpp", "} else if (now < began_ + work_.limit) {", "} else if (true) {", "host_link_test",
     "TimeLimitKills", "hangs"),
]
