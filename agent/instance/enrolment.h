#pragma once
// How an agent becomes known: it proves its two keys, and a token or a person vouches for it.

#include <string>

#include "agent/base/clock.h"
#include "agent/instance/authority.h"
#include "agent/instance/json.h"
#include "agent/instance/recorder.h"
#include "agent/instance/trust.h"
#include "agent/store/store.h"

namespace keyagent::instance {

// Thread-safe; nothing is kept in memory, so that any replica goes on. API.md, "Enrolment".
class Enrolment {
 public:
  Enrolment(const InstanceConfig& config, HostKeys& keys, Authority& authority, store::Store& store,
            Recorder& recorder, const Clock& clock);

  // `from`: the address of who asks.
  Json begin(const Json& request, const std::string& from);
  Json prove(const std::string& id, const Json& request, const std::string& from);
  Json poll(const std::string& id, const std::string& answer);

  // {"token","expires"}
  Json make_token(const std::string& agent, const std::vector<std::string>& groups,
                  std::chrono::hours life, const std::string& by);
  // "https://host:port" of the agents' listener, once it listens.
  void set_agents_port(std::uint16_t port) { agents_port_ = port; }

 private:
  void require_free(const store::Agent& wanted, bool replace, const std::string& from);
  Json answer_for(const store::Challenge& challenge);
  void enter(const Json& asked, const std::string& state, const std::string& vouched);

  const InstanceConfig& config_;
  HostKeys& keys_;
  Authority& authority_;
  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
  std::uint16_t agents_port_ = 0;
};

}  // namespace keyagent::instance
