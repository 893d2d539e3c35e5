// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/fleet/links.h"

#include <unistd.h>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/instance/fleet/trust.h"
#include "agent/store/links.h"

namespace keyagent::instance {
namespace {

constexpr int kSilence = 3;  // heartbeats
constexpr const char* kReplaced = "replaced";

// For people it is the host's name; what tells two of them apart is random.
std::string new_replica() {
  char host[65] = {};
  if (::gethostname(host, sizeof host - 1) != 0) host[0] = 0;
  return escape_controls(host) + "/" + to_hex(random_bytes(8));
}

}  // namespace

Links::Links(store::Store& store, const Clock& clock, std::chrono::milliseconds heartbeat,
             Followers& followers)
    : store_(store),
      clock_(clock),
      followers_(followers),
      heartbeat_(heartbeat),
      replica_(new_replica()) {}

bool Links::is_alive(const store::AgentLink& link) const {
  return !link.replica.empty() && clock_.now() - link.seen < kSilence * heartbeat_;
}

std::optional<store::AgentLink> Links::enter(const std::string& agent,
                                             std::shared_ptr<tls::Link> link, const Json& welcome) {
  store::AgentLink row;
  row.agent = agent;
  row.replica = replica_;
  row.address = link->peer().address;
  row.tls_version = link->peer().tls_version;
  row.serial = link->peer().serial;
  row.since = row.seen = clock_.now();
  const auto entered = store_.links().open(row);
  std::shared_ptr<tls::Link> ended = link;
  {
    const MutexLock lock(mutex_);
    Entry& entry = entries_[agent];
    // Two of them may come in the order in which the store has them, or not.
    if (entry.session < entered.now.session) {
      link->send(welcome.dump());
      ended = std::move(entry.link);
      entry = {std::move(link), entered.now.session, entered.now.news, {}};
    }
  }
  if (ended) ended->close(kReplaced);
  store_.notify(agent);
  if (!is_alive(entered.before)) return std::nullopt;
  return entered.before;
}

std::shared_ptr<void> Links::await_hello(const std::string& kid) {
  {
    const MutexLock lock(mutex_);
    int& count = ungreeted_[kid];
    if (count >= kMaxUngreeted)
      throw Error(Code::kBusy,
                  "too many links of this key wait for hello (4); try again in 10 seconds", kid);
    ++count;
  }
  return {static_cast<void*>(nullptr), [this, kid](void*) {
            const MutexLock released(mutex_);
            if (--ungreeted_[kid] == 0) ungreeted_.erase(kid);
          }};
}

void Links::leave(const std::string& agent, const tls::Link* link) {
  std::int64_t session = 0;
  {
    const MutexLock lock(mutex_);
    const auto found = entries_.find(agent);
    if (found == entries_.end() || found->second.link.get() != link) return;
    session = found->second.session;
    entries_.erase(found);
  }
  store_.links().close(agent, session);
}

bool Links::beat(const std::string& agent, const tls::Link* link) {
  std::int64_t session = 0;
  {
    const MutexLock lock(mutex_);
    const auto found = entries_.find(agent);
    if (found == entries_.end() || found->second.link.get() != link) return false;
    session = found->second.session;
  }
  if (store_.links().record_heartbeat(agent, session, clock_.now())) return true;
  close(agent, kReplaced);
  return false;
}

std::shared_ptr<tls::Link> Links::link_of(const std::string& agent) const {
  const MutexLock lock(mutex_);
  const auto found = entries_.find(agent);
  return found == entries_.end() ? nullptr : found->second.link;
}

bool Links::send(const std::string& agent, const Json& message) {
  const auto link = link_of(agent);
  return link && link->send(message.dump());
}

bool Links::send_order(const std::string& agent, std::int64_t order, const Json& message) {
  const MutexLock lock(mutex_);
  const auto found = entries_.find(agent);
  if (found == entries_.end() || found->second.orders.contains(order)) return false;
  if (!found->second.link->send(message.dump())) return false;
  found->second.orders.insert(order);
  return true;
}

void Links::close(const std::string& agent, const std::string& reason) {
  if (const auto link = link_of(agent)) link->close(reason);
}

bool Links::has(const std::string& agent) const {
  return link_of(agent) != nullptr;
}

std::vector<std::string> Links::agents() const {
  const MutexLock lock(mutex_);
  std::vector<std::string> out;
  for (const auto& [agent, entry] : entries_) out.push_back(agent);
  return out;
}

void Links::look(const std::string& agent) {
  // First those that are here: one that comes meanwhile is not missed in what is read after it.
  std::map<std::string, Entry> here;
  {
    const MutexLock lock(mutex_);
    if (agent.empty())
      here = entries_;
    else if (const auto found = entries_.find(agent); found != entries_.end())
      here.insert(*found);
  }
  if (here.empty()) return;
  std::map<std::string, store::LinkStatus> link_status;
  for (auto& each : store_.links().status(replica_, agent)) {
    auto id = each.link.agent;
    link_status.emplace(std::move(id), std::move(each));
  }
  for (const auto& [id, entry] : here) {
    const auto found = link_status.find(id);
    judge(id, entry, found == link_status.end() ? nullptr : &found->second);
  }
}

void Links::judge(const std::string& agent, const Entry& entry, const store::LinkStatus* standing) {
  if (standing == nullptr || standing->link.session != entry.session)
    return entry.link->close(kReplaced);
  if (standing->agent_state != name_of(Trust::kTrusted))
    return entry.link->close("the agent is " + standing->agent_state);
  const auto& kid = entry.link->peer().kid;
  if (kid != standing->auth_kid && kid != standing->next_auth_kid)
    return entry.link->close("the agent has a new key");
  if (standing->link.news <= entry.news) return;
  {
    const MutexLock lock(mutex_);
    const auto found = entries_.find(agent);
    if (found == entries_.end() || found->second.session != entry.session) return;
    found->second.news = standing->link.news;
  }
  followers_.send_assigned(agent);
}

std::optional<store::AgentLink> Links::find(const std::string& agent) const {
  auto link = store_.links().find(agent);
  if (!link || !is_alive(*link)) return std::nullopt;
  return link;
}

}  // namespace keyagent::instance
