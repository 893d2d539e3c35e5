// SPDX-License-Identifier: Apache-2.0
// The ssh-agent protocol: frames of one connection, with keys that can be used. Every request gets
// one answer; a signature verifies, and none comes on a forwarded connection. A key blob that is
// taken is written again as it was.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/sshagent/ssh_agent.h"
#include "agent/sshagent/ssh_key.h"
#include "agent/sshagent/ssh_wire.h"
#include "agent/wire/frame.h"
#include "tests/sshagent/memory_gate.h"

namespace {

using namespace keyagent;

// Known to the seeds in corpus/sshagent, which sign with it and have it as their host key.
constexpr const char* kKnownKey =
    "302e020100300506032b657004220420"
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

struct Keys {
  Keys() {
    gate.add_pkcs8("known", KeyAlgorithm::kEd25519, *from_hex(kKnownKey));
    gate.add("rsa", Purpose::kSign, KeyAlgorithm::kRsa2048);
    gate.add("tls", Purpose::kAuth, KeyAlgorithm::kEcP256);
  }
  test::MemoryGate gate;
};

void check_blob(ByteView blob) {
  try {
    const Bytes again = sshagent::key_blob(sshagent::spki_of_blob(blob));
    if (!std::equal(again.begin(), again.end(), blob.begin(), blob.end())) std::abort();
  } catch (const Error&) {
  }
}

void check_signature(ByteView request, ByteView answer) {
  sshagent::Reader asked(request.subspan(1)), given(answer.subspan(1));
  const ByteView blob = asked.string(), data = asked.string();
  if (!sshagent::verify_blob(blob, given.string(), data)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Keys& keys = *new Keys;  // libcrypto is gone when statics are destroyed
  check_blob({data, size});
  sshagent::SshAgent agent(keys.gate.ask(), false);
  sshagent::SessionBindings bindings;
  policy::Principal who;
  who.uid = test::MemoryGate::kUid;
  wire::FrameReader frames;
  const auto room = frames.space(size);
  std::copy(data, data + size, room.begin());
  frames.commit(size);
  try {
    while (const auto request = frames.next()) {
      const bool forwarded = bindings.forwarded();
      int answers = 0;
      agent.handle(who, *request, bindings, [&](SecretBytes answer) {
        if (++answers != 1 || answer.empty()) std::abort();
        if (answer[0] != 14) return;
        if (forwarded) std::abort();
        check_signature(*request, answer);
      });
      if (answers != 1) std::abort();
    }
  } catch (const Error&) {
    // A frame that is too long ends the connection.
  }
  return 0;
}
