// SPDX-License-Identifier: Apache-2.0
// What was in a request is not left in the memory of its client or its server.

#include "agent/base/wiping.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <string_view>
#include <utility>

#include "agent/base/encoding.h"
#include "tests/support/sanitized.h"
#include "tests/tls/tls_fixture.h"

namespace keyagent::tls::test {
namespace {

// A secret that this process stores only masked, until append_to() is called.
class Canary {
 public:
  // REQUIRES: `to` has room for it, and is wiped by its owner.
  void append_to(std::string& to) const {
    for (const auto byte : masked_) to += static_cast<char>(byte ^ kMask);
  }
  // How often it is in what this process may write to.
  std::size_t count() const {
    std::ifstream maps("/proc/self/maps"), memory("/proc/self/mem", std::ios::binary);
    std::size_t found = 0;
    for (std::string line; std::getline(maps, line);) {
      unsigned long begin = 0, end = 0;
      char mode[5] = {};
      if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, mode) == 3 && mode[1] == 'w')
        found += count_in(memory, begin, end);
    }
    return found;
  }

 private:
  static constexpr std::uint8_t kMask = 0x5a;
  static constexpr std::size_t kBlock = 1 << 20;

  std::size_t count_in(std::ifstream& memory, unsigned long begin, unsigned long end) const {
    std::size_t found = 0;
    for (auto at = begin; at < end; at += kBlock) {
      block_.resize(std::min<unsigned long>(kBlock + masked_.size(), end - at));
      memory.clear();
      memory.seekg(static_cast<std::streamoff>(at));
      memory.read(reinterpret_cast<char*>(block_.data()),
                  static_cast<std::streamsize>(block_.size()));
      block_.resize(static_cast<std::size_t>(memory.gcount()));
      // Nor does the search hold it. Pointers and memchr(): a build without optimization is quick
      // too.
      for (auto *byte = block_.data(), *end_of = byte + block_.size(); byte != end_of; ++byte)
        *byte ^= kMask;
      const auto text = view(block_), wanted = view(masked_);
      for (auto from = text.find(wanted); from != text.npos; from = text.find(wanted, from + 1))
        ++found;
    }
    return found;
  }
  static std::string_view view(const Bytes& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  static Bytes masked() {
    std::string text = to_hex(random_bytes(24));
    const Wiping wiping(text);
    Bytes out;
    for (const char c : text) out.push_back(static_cast<std::uint8_t>(c) ^ kMask);
    return out;
  }
  const Bytes masked_ = masked();
  mutable Bytes block_;
};

class WipingTest : public Tls {
 protected:
  Handlers handlers() override {
    Handlers calls;
    calls.request = [this](const HttpRequest& request) {
      seen_ = canary_.count();
      if (request.path == "/error") throw Error(Code::kDenied, "no");
      return HttpResponse{};
    };
    return calls;
  }
  const Canary canary_{};
  std::atomic<std::size_t> seen_ = 0;
};

TEST_F(WipingTest, R4_ABodyIsInNoMemoryAfterItsAnswer) {
  if (keyagent::test::is_sanitized()) GTEST_SKIP() << "the sanitizer's memory is not searched";
  // The handler searches all memory: no deadline may end the request before it has.
  auto server_options = options();
  server_options.handshake_timeout = server_options.request_timeout = 300s;
  server_options.idle_timeout = 300s;
  serve(identity("server"), trust(), server_options);
  auto options = client_options();
  options.connect_timeout = options.timeout = 300s;
  Client one(library_, options);
  for (const auto& [target, code] : {std::pair{"/", Code::kOk}, {"/error", Code::kDenied}}) {
    seen_ = 0;
    {
      // More than one record of TLS, and more than the server's buffer.
      std::string body(40000, '.');
      body.reserve(50000);
      canary_.append_to(body);
      const Wiping wiping(body);
      const auto refusal = refusal_of([&, path = target] { one.call("POST", path, body); });
      EXPECT_EQ(refusal.code, code) << refusal.text;
    }
    EXPECT_GE(seen_.load(), 3u) << "the test's, the client's and the server's";
    EXPECT_EQ(canary_.count(), 0u) << target;
  }
}

}  // namespace
}  // namespace keyagent::tls::test
