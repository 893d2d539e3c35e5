#include "agent/instance/links.h"

namespace keyagent::instance {

std::string Links::enter(const std::string& agent, std::shared_ptr<tls::Link> link, WallTime now) {
  std::shared_ptr<tls::Link> before;
  std::string address;
  {
    const std::lock_guard lock(mutex_);
    Entry& entry = entries_[agent];
    if (entry.link) {
      before = entry.link;
      address = entry.live.peer.address;
    }
    entry.live = {agent, link->peer(), now, now, false};
    entry.link = std::move(link);
  }
  if (before) before->close("replaced");
  return address;
}

void Links::leave(const std::string& agent, const tls::Link* link) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(agent);
  if (found != entries_.end() && found->second.link.get() == link) entries_.erase(found);
}

void Links::beat(const std::string& agent, WallTime now) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(agent);
  if (found != entries_.end()) found->second.live.heartbeat = now;
}

bool Links::send(const std::string& agent, const Json& message) {
  std::shared_ptr<tls::Link> link;
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(agent);
    if (found == entries_.end()) return false;
    link = found->second.link;
  }
  return link->send(message.dump());
}

void Links::close(const std::string& agent, const std::string& reason) {
  std::shared_ptr<tls::Link> link;
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(agent);
    if (found == entries_.end()) return;
    link = found->second.link;
  }
  link->close(reason);
}

std::optional<Links::Live> Links::find(const std::string& agent) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(agent);
  if (found == entries_.end()) return std::nullopt;
  return found->second.live;
}

std::vector<std::string> Links::agents() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (const auto& [agent, entry] : entries_) out.push_back(agent);
  return out;
}

}  // namespace keyagent::instance
