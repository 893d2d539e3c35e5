# SPDX-License-Identifier: Apache-2.0
MUTANTS = [
    ("trusted-program", "agent/process/confined.cpp", "  require_trusted(what.program);\n", "", "host_link_test",
     "HostWorker.Fault162_AProgram"),
    ("descriptors-of-a-handler", "agent/process/confined.cpp", '  if (::close_range(kReport + 1, ~0U, 0) != 0) give_up("descriptors");\n', "",
     "host_link_test", "HostWorker.R4_Handler"),
    ("handler-with-its-user", "agent/process/confined.cpp", "  if (prepared.what.user) become(*prepared.what.user);\n", "", "host_link_test",
     "HandlerIsTheUser"),
    ("memory-of-a-handler", "agent/process/confined.cpp", "  if (prepared.what.memory > 0 && ::setrlimit", "  if (false && ::setrlimit",
     "host_link_test", "MemoryLimitHolds"),
    ("runtime-directory-is-kept", "agent/process/hardening.cpp", '                                      "RUNTIME_DIRECTORY",\n', "", "daemon_test",
     "Fault081_CopyOfTheLedger"),
    ("signals-are-forwarded", "agent/process/supervisor.cpp", "  if (forward_to_ > 0 && from_a_process) ::kill(forward_to_, signal);\n", "", "sandbox_test",
     "SandboxTest.SignalsEnd"),
    ("commands-end-with-their-sandbox", "agent/process/supervisor.cpp", "if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)", "if (false)", "sandbox_test",
     "SandboxTest.AKilledSandbox"),
    ("what-a-command-leaves-is-ended", "agent/process/supervisor.cpp", "        ::kill(pid, SIGKILL);\n", "", "sandbox_test", "SandboxTest.WhatTheCommandLeaves"),
]
