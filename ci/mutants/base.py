MUTANTS = [
    ("fsync-audit", "agent/base/disk.cpp", "if (::fdatasync(fd_.get()) != 0) {", "if (false) {", "crash_test",
     "crash_test --act rekey --mode power"),
    ("lock-of-the-state-folder", "agent/base/disk.cpp", "if (::fcntl(fd_.get(), F_OFD_SETLK, &lock) != 0) {", "if (false) {",
     "key_store_test", "Fault085"),
    ("folders-above-a-file", "agent/base/trusted_path.cpp",
     "    if (!sticky && (group || (status.st_mode & S_IWOTH) != 0)) add(mode_fault(path, status));\n", "", "base_test", "Fault162"),
    ("owner-of-the-folders", "agent/base/trusted_path.cpp",
     "    if (!trusted_owner(status, user_)) add(owner_fault(path, status, user_));\n    const bool sticky", "    const bool sticky",
     "base_test", "Fault162"),
    ("form-of-a-secret", "agent/base/secret_text.cpp", "if (const char* fault = fault_of(text))", "if (const char* fault = nullptr)",
     "base_test", "Fault176"),
]
