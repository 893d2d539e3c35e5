// SPDX-License-Identifier: Apache-2.0
#pragma once
// One token of one module, kept usable: found by serial and label, logged in once, with a pool of
// sessions in front and a recovery ladder behind. The facade that the rest of the code base uses.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "pkcs11/profile.h"
#include "pkcs11/secret.h"
#include "pkcs11/session.h"

namespace keyagent::pkcs11 {

// Both must match where given; at least one must be given. Never a slot number.
struct TokenSelector {
  std::string label;
  std::string serial;
};

enum class TokenState { kUp, kAbsent, kDown, kStuck, kPinRefused, kPinLocked };

struct TokenStatus {
  TokenState state = TokenState::kDown;
  std::string detail;  // one line: the last fault, "CKR_… in C_…"
  std::string label, serial, manufacturer, model, firmware;
  std::filesystem::path module;
  std::string module_sha256;  // of the file that was loaded, in hex
  std::uint64_t epoch = 0;    // grows with each C_Initialize; handles of an older one are void
  std::size_t sessions_open = 0, sessions_busy = 0, sessions_limit = 0, sessions_waiting = 0,
              stuck_calls = 0;
  std::uint64_t operations = 0, faults = 0, recoveries = 0, logins = 0, canaries = 0;
};

struct TokenOptions {
  TokenSelector selector;
  PinSource pin;
  // Remembers (as an Argon2id hash) the PIN that the token refused, so that no restart tries it
  // again; empty: memory only.
  std::filesystem::path refused_pin_file;
  // Substituted for "${state}" in the profile's environment.
  std::filesystem::path state_folder;
  // After a failed recovery: the first pause and the longest.
  std::chrono::milliseconds backoff_first{1000}, backoff_most{30000};
  // Pause between two new runs of the module that only search for missing objects (see
  // look_again()).
  std::chrono::milliseconds look_again{10000};
  // After the token refused a session: the pause before another one is requested.
  std::chrono::milliseconds grow_again{60000};
  // Called with one line for each change of TokenState, from the thread that saw it (one of the
  // token's own after an attempt to bring it up), never after ~Token. May be empty.
  std::function<void(TokenState, const std::string&)> on_state;
};

// Thread-safe. One owner a process for a module: two Tokens of one module share it, through
// Module's registry. Never logs out, never finalizes while a call is inside the module.
class Token {
 public:
  // Loads the module and starts to search for the token; does not throw when the token is absent or
  // the PIN is refused (status() reports that, and run() throws the corresponding Error), so that
  // an agent may start before its HSM. Throws Error{kModule} only when no module file of the
  // profile can be loaded.
  Token(Profile profile, TokenOptions options);
  ~Token();
  Token(const Token&) = delete;

  // Runs `work` on a leased, logged-in session and returns its result.
  //
  // Waits at most until `deadline` (profile.deadline from now when it is zero) for a session:
  // Error{kBusy} when the queue is full, Error{kDeadline} when it passes. When `work` throws a
  // pkcs11::Error:
  //   - class kInput, kKey, kCall: the error continues up (and the session is closed when an
  //   operation may still be active);
  //   - class kSession (stale handles too): the session is closed, `work` is run once more on a new
  //   one (so it must be idempotent unless `once`);
  //   - class kAmbiguous: a canary operation on a fresh session tells a bad input (rethrown as is,
  //   status().state stays kUp)
  //     from a dead token;
  //   - kObject: a second look in a fresh run of the module (look_again()), then `work` once more;
  //   - class kDevice with a canary that passes: like kSession;
  //   - class kLogin, or a failed canary: the recovery ladder: C_Finalize + C_Initialize once no
  //   call is inside the module, the
  //     token found again, one login; then `work` once more unless `once` is set. A recovery that
  //     fails is tried again after 1 s, doubling to 30 s with jitter; meanwhile run() throws the
  //     last fault at once and status().state is not kUp.
  // Any other exception closes the session and continues up. The canary is shared by failures that
  // happen while it runs; what comes later asks again, so that a token fault is never taken for bad
  // input.
  template <class Work>
  auto run(Work&& work, bool once = false) -> decltype(work(std::declval<Session&>())) {
    using Result = decltype(work(std::declval<Session&>()));
    if constexpr (std::is_void_v<Result>) {
      run_erased([&](Session& session) { work(session); }, once);
    } else {
      std::optional<Result> result;
      run_erased([&](Session& session) { result.emplace(work(session)); }, once);
      return std::move(*result);
    }
  }

  // The same for work that changes the token. Error{kFull} before it begins when the disk of a
  // token in files is full. Class kAmbiguous never blames the input here: a second look instead.
  template <class Work>
  auto change(Work&& work, bool once = false) -> decltype(work(std::declval<Session&>())) {
    require_room();
    return change_without_room(std::forward<Work>(work), once);
  }
  // For work that makes room: a full disk does not stop it, a read-only one does (Error{kFull}).
  template <class Work>
  auto change_without_room(Work&& work, bool once = false)
      -> decltype(work(std::declval<Session&>())) {
    require_writable();
    using Result = decltype(work(std::declval<Session&>()));
    if constexpr (std::is_void_v<Result>) {
      run_erased([&](Session& session) { work(session); }, once, true);
    } else {
      std::optional<Result> result;
      run_erased([&](Session& session) { result.emplace(work(session)); }, once, true);
      return std::move(*result);
    }
  }

  // Throws Error{kFull} where the files of the token are on a read-only file system: a write that
  // it began could not be completed. change() and change_without_room() ask this first; a caller
  // that records its intention elsewhere asks before it does.
  void require_writable() const;

  // What should be in the token is not found, or a write failed for no named reason: C_Finalize and
  // C_Initialize, because a module may have lost its files or its device and hide that (RELIABILITY
  // 164). True: what is found from now on is what a fresh run sees. False: there was one within
  // options.look_again, or the disk is full. Throws why the token cannot be used.
  bool look_again();

  TokenStatus status() const;
  const Profile& profile() const;
  // Of TokenOptions.
  const std::filesystem::path& refused_pin_file() const;

  // One canary now: C_GenerateRandom, or C_GetSessionInfo in user state where the token has no RNG.
  // False when the token does not answer; starts the ladder then. Called by the daemon's timer so
  // that a token heals without traffic.
  bool check_health();

  // Closes every pooled session, those in use as they come back: with them go cached handles and
  // session copies of keys. To be called when an object was destroyed. With
  // profile.reload_after_destroy the whole module begins again.
  void renew_sessions();

 private:
  void run_erased(const std::function<void(Session&)>& work, bool once, bool changes = false);
  void require_room() const;
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace keyagent::pkcs11
