// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keys and signatures made by ssh-keygen.

#include <openssl/evp.h>

#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include "agent/base/encoding.h"
#include "agent/sshagent/ssh_wire.h"
#include "tests/support/command.h"
#include "tests/support/temp_folder.h"

namespace keyagent::test {

// Base64 with or without line ends and its PEM frame.
inline Bytes from_base64(const std::string& text) {
  std::istringstream lines(text);
  std::string line, body;
  while (std::getline(lines, line))
    if (line.rfind("-----", 0) != 0) body += line;
  Bytes out(body.size());
  const int size = EVP_DecodeBlock(out.data(), reinterpret_cast<const unsigned char*>(body.data()),
                                   static_cast<int>(body.size()));
  const auto padding = static_cast<int>(body.size() - body.find_last_not_of('=') - 1);
  out.resize(static_cast<std::size_t>(size - padding));
  return out;
}

class SshKeygen {
 public:
  static bool there() { return try_command("command -v ssh-keygen").status == 0; }

  void make(const std::string& kind) const {
    run_command("rm -f " + file("key*") + " && ssh-keygen -q -N '' -C '' -f " + file("key") +
                " -t " + kind);
  }
  Bytes blob() const {
    std::istringstream words(read("key.pub"));
    std::string type, base64;
    words >> type >> base64;
    return from_base64(base64);
  }
  std::string line(const std::string& comment) const {
    run_command("ssh-keygen -q -c -C '" + comment + "' -f " + file("key"));
    return read("key.pub");
  }
  std::string fingerprint() const {
    std::istringstream words(run_command("ssh-keygen -l -f " + file("key.pub")));
    std::string bits, text;
    words >> bits >> text;
    return text;
  }
  Bytes spki() const {
    return from_base64(run_command("ssh-keygen -e -m PKCS8 -f " + file("key.pub")));
  }
  // What was signed, and a signature blob over it (OpenSSH PROTOCOL.sshsig).
  std::pair<Bytes, Bytes> sign(const std::string& text) const {
    std::ofstream(file("key.data")) << text;
    run_command("ssh-keygen -q -Y sign -n test -f " + file("key") + " " + file("key.data"));
    const Bytes armored = from_base64(read("key.data.sig"));
    sshagent::Reader reader(ByteView(armored).subspan(6));
    reader.uint32();
    reader.string();
    const ByteView name_space = reader.string(), reserved = reader.string();
    const ByteView hash = reader.string(), signature = reader.string();
    Bytes digest(64);
    EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha512(), nullptr);
    const auto data = sshagent::Writer()
                          .raw(as_bytes("SSHSIG"))
                          .string(name_space)
                          .string(reserved)
                          .string(hash)
                          .string(digest)
                          .take();
    return {{data.begin(), data.end()}, {signature.begin(), signature.end()}};
  }

 private:
  std::string file(const std::string& name) const { return (folder_.path() / name).string(); }
  std::string read(const std::string& name) const {
    std::ifstream in(file(name), std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  TempFolder folder_;
};

}  // namespace keyagent::test
