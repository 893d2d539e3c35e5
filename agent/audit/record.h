// SPDX-License-Identifier: Apache-2.0
#pragma once
// One line of the log and its place in the chain. The grammar: README.md.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/audit/audit_log.h"

namespace keyagent::audit {

// The chain's value before the first record.
inline constexpr std::string_view kGenesis =
    "0000000000000000000000000000000000000000000000000000000000000000";
inline constexpr std::string_view kLogName = "audit.log";
inline constexpr std::string_view kCheckpointName = "checkpoint.json";

// Maximum size of each text in a record; a longer text is cut and marked as cut (RELIABILITY 155).
// Escaped, a record has at most 16 KiB.
inline constexpr std::size_t kMaxWord = 64, kMaxName = 256, kMaxDetail = 1024;

// The canonical line without its newline: {"seq":…,"time":…,"prev":…,…,"hash":…}. Empty fields are
// left out.
std::string format_event(std::uint64_t seq, WallTime time, const std::string& prev,
                         const Event& event);
std::string format_checkpoint(std::uint64_t seq, WallTime time, const std::string& prev,
                              std::uint64_t size, const CheckpointSignature& signature);

// What a verifier needs of a line.
struct Line {
  std::uint64_t seq = 0;
  std::string prev, hash;
  bool hash_fits = false;  // hash is SHA-256(the line up to its "hash" field)
  bool is_checkpoint = false;
  std::uint64_t size = 0;  // of a checkpoint: records it covers
  std::string kid, algorithm;
  Bytes signature;
};
// A record for people to read, of at most about `max` bytes: texts that are too long are cut, and
// the field "cut" gives the original size of the line. Its hash no longer matches. A line that is
// not a record becomes {"what":"unreadable",…}.
std::string shorten_line(std::string_view line, std::size_t max);
// nullopt: the line is not a record.
std::optional<Line> parse_line(std::string_view line);

// What a checkpoint's signature is over: "keyagent-audit-checkpoint-v1\n" ‖ size ‖ "\n" ‖ hash of
// the last covered record ‖ "\n".
std::string checkpoint_payload(std::uint64_t size, const std::string& hash);
// checkpoint.json: {"size":…,"hash":…,"time":…,"kid":…,"alg":…,"signature":…}.
std::string format_external(std::uint64_t size, const std::string& hash, WallTime time,
                            const CheckpointSignature& signature);
struct External {
  std::uint64_t size = 0;
  std::string hash, kid, algorithm;
  Bytes signature;
};
// nullopt when the text is not a checkpoint. Nothing is verified.
std::optional<External> parse_external(std::string_view text);

}  // namespace keyagent::audit
