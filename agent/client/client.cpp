// SPDX-License-Identifier: Apache-2.0
#include "agent/client/client.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "agent/base/error.h"
#include "agent/base/mutex.h"
#include "agent/client/channel.h"
#include "agent/wire/messages.h"

namespace keyagent::client {

std::filesystem::path socket_path(const std::string& given) {
  if (!given.empty()) return given;
  const char* named = std::getenv("KEYAGENT_SOCKET");
  return named != nullptr && *named != '\0' ? named : only_socket("/run/keyagent");
}

std::filesystem::path only_socket(const std::filesystem::path& folder) {
  constexpr std::size_t kShown = 8;
  const auto usual = folder / "agent.sock";
  std::error_code error;
  if (std::filesystem::exists(usual, error)) return usual;
  std::set<std::filesystem::path> found;
  for (std::filesystem::directory_iterator each(folder, error), end; !error && each != end;
       each.increment(error)) {
    const std::string name = each->path().filename().string();
    if (each->is_socket(error) && name.ends_with(".sock")) found.insert(each->path());
    if (found.size() > kShown) break;
  }
  // NAME-ssh.sock is the agent NAME's other socket (`ssh.path`).
  std::erase_if(found, [&](const auto& each) {
    const std::string name = each.filename().string();
    const std::string_view end = "-ssh.sock";
    return name.ends_with(end) &&
           found.contains(folder / (name.substr(0, name.size() - end.size()) + ".sock"));
  });
  if (found.empty()) return usual;
  if (found.size() == 1) return *found.begin();
  std::string list;
  for (const auto& each : found) list += (list.empty() ? "" : ", ") + each.string();
  throw Error(Code::kUsage, "several agents are on this host: " + list +
                                "; set KEYAGENT_SOCKET to the socket of one of them");
}

struct Client::Impl {
  Options options;
  std::optional<RootFolder> root;
  std::atomic<std::uint64_t> next_id{1};
  Mutex mutex;
  std::shared_ptr<Channel> current GUARDED_BY(mutex);

  // The open channel, or a new one.
  std::shared_ptr<Channel> channel(SteadyTime deadline) {
    MutexLock lock(mutex);
    if (current && current->process() != ::getpid()) {
      current->abandon();
      current.reset();
    }
    if (!current || current->broken() || current->closed_while_idle())
      current = std::make_shared<Channel>(
          connect_agent(options.socket, deadline, root ? &*root : nullptr), options.deadline);
    return current;
  }

  wire::Response exchange(std::uint64_t id, ByteView frame, SteadyTime deadline, bool repeat) {
    for (;;) {
      try {
        return channel(deadline)->call(id, frame, deadline);
      } catch (const ConnectionLost& lost) {
        if (!std::exchange(repeat, false))
          throw Error(Code::kPeer, "the connection to the agent at " + options.socket.string() +
                                       " was lost (" + lost.why +
                                       "); it is unknown whether the request was carried out");
      }
    }
  }
};

Client::Client(Options options) : impl_(std::make_unique<Impl>()) {
  impl_->options = std::move(options);
  if (!impl_->options.survive_chroot) return;
  impl_->root.emplace();
  // Links on the way are followed now: an absolute one would lead into the new root directory.
  std::error_code error;
  const auto& socket = impl_->options.socket;
  const auto folder = std::filesystem::canonical(socket.parent_path(), error);
  if (!error) impl_->options.socket = folder / socket.filename();
}

Client::~Client() = default;

wire::Response Client::call(wire::Request request) {
  const auto deadline = std::chrono::steady_clock::now() + impl_->options.deadline;
  request.set_id(impl_->next_id++);
  if (request.deadline_ms() == 0)
    request.set_deadline_ms(static_cast<std::uint32_t>(impl_->options.deadline.count()));
  const SecretBytes body = wire::serialize(request);
  const bool repeat = wire::repeatable(request);
  wire::wipe(request);
  if (body.size() > wire::kMaxFrame)
    throw Error(Code::kUsage, "the request has " + std::to_string(body.size()) +
                                  " bytes; the agent accepts " + std::to_string(wire::kMaxFrame));
  SecretBytes frame;
  frame.reserve(body.size() + wire::kFrameHeader);
  wire::append_frame(frame, body);
  auto response = impl_->exchange(request.id(), frame, deadline, repeat);
  if (response.has_failure())
    throw Error(wire::code_of(response.failure().code()), response.failure().text(),
                response.failure().kid());
  return response;
}

}  // namespace keyagent::client
