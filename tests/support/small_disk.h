// SPDX-License-Identifier: Apache-2.0
#pragma once
// Its own file system for a folder, small enough to be filled. Only root gets one.

#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace keyagent::test {

class SmallDisk {
 public:
  explicit SmallDisk(std::filesystem::path folder, const std::string& size = "1m")
      : folder_(std::move(folder)) {
    std::filesystem::create_directories(folder_);
    mounted_ =
        ::mount("tmpfs", folder_.c_str(), "tmpfs", 0, ("mode=0777,size=" + size).c_str()) == 0;
  }
  SmallDisk(const SmallDisk&) = delete;
  ~SmallDisk() {
    if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  void fill() const {
    std::ofstream out(folder_ / "filler", std::ios::binary);
    const std::string block(4096, 'x');
    while (out.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  void make_room() const { std::filesystem::remove(folder_ / "filler"); }

 private:
  std::filesystem::path folder_;
  bool mounted_ = false;
};

}  // namespace keyagent::test
