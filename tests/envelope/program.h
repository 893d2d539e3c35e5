// SPDX-License-Identifier: Apache-2.0
#pragma once
// Other programs that seal and open, run in a temporary folder.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "agent/base/bytes.h"

namespace keyagent::test {

// Made empty, removed at the end.
class WorkFolder {
 public:
  WorkFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "keyagent-env-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a folder");
    path_ = name;
  }
  ~WorkFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void write(const std::string& name, ByteView bytes) const {
    std::ofstream(path_ / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  Bytes read(const std::string& name) const {
    std::ifstream in(path_ / name, std::ios::binary);
    return Bytes(std::istreambuf_iterator<char>(in), {});
  }

 private:
  std::filesystem::path path_;
};

// Runs a shell line in the folder; what it says on failure becomes the exception's text.
inline void run(const WorkFolder& folder, const std::string& line) {
  const std::string whole = "cd '" + folder.path().string() + "' && { " + line + "; } 2>stderr.txt";
  if (std::system(whole.c_str()) == 0) return;
  const Bytes said = folder.read("stderr.txt");
  throw std::runtime_error(line + ": " + std::string(said.begin(), said.end()));
}

inline bool program_there(const std::string& name) {
  return std::system(("command -v " + name + " >/dev/null 2>&1").c_str()) == 0;
}

}  // namespace keyagent::test
