MUTANTS = [
    ("old-root-directory", "agent/client/channel.cpp", "!root->left()", "true", "e2e_test", "Fault174"),
]
