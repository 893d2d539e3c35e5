MUTANTS = [
    ("answers-in-any-order", "agent/net/server_threads.cpp", "holds_later_ && holds_later_(frame)", "false", "net_test",
     "UnixServerOrder"),
    ("places-for-who-comes-first", "agent/net/accept.cpp",
     "  loser = idle_of_the_largest(std::max(load.connections + 1, kFew), 0ms);\n", "", "net_test", "SharesTest.Fault149_Idle"),
    ("no-place-for-root", "agent/net/accept.cpp", "if (own && total < limit + kEmergency) return {};", "", "net_test",
     "SharesTest.Fault149_Root"),
]
