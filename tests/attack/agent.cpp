// SPDX-License-Identifier: Apache-2.0
// An agent that the instance trusts, and that wants what is another's. It enrolls with a token.
//   --api URL --agents URL --fingerprint TEXT --token-file FILE --seconds N --victim ID
//   --credential NAME
#include <fstream>
#include <thread>

#include "tests/attack/attempts.h"
#include "tests/instance/simulated_agent.h"

namespace keyagent::attack {
namespace {

using namespace std::chrono_literals;
using test::Json;
using test::SimulatedAgent;

struct Target {
  std::string api, agents, fingerprint, token, victim, credential;
};

class Address final : public test::InstanceAddress {
 public:
  explicit Address(const Target& target) : target_(target) { fingerprint = target.fingerprint; }
  std::string api_url() const override { return target_.api; }
  std::string agents_url() const override { return target_.agents; }

 private:
  const Target target_;
};

// Trusted under its own name; shared by the attacks, each of which has a copy.
struct Mallory {
  explicit Mallory(const Target& given) : target(given), address(given), self(address, "mallory") {
    self.enrol(target.token);
    if (self.chain.empty()) self.poll();
    if (self.chain.empty()) throw std::runtime_error("mallory was not enrolled");
  }
  const Target target;
  const Address address;
  SimulatedAgent self;
};

using Shared = std::shared_ptr<Mallory>;

// One call of the agents' API; an answer below 300 is a gain unless it is the agent's own.
Attack call(const std::string& name, const Shared& mallory, const std::string& method,
            const std::string& path, const Json& body) {
  return {name, 1, [=] {
            auto client =
                std::make_shared<tls::Client>(mallory->self.library, mallory->self.mutual());
            return [=](Attempts& count) {
              count.attempt([&] {
                return client->call(method, path, body.is_null() ? "" : body.dump()).status < 300;
              });
            };
          }};
}

// Says hello with the victim's name and keys.
Attack false_hello(const Shared& mallory) {
  return {"a link under the victim's name", 1, [=] {
            return [=](Attempts& count) {
              count.attempt([&] {
                tls::LinkClient link(mallory->self.library, mallory->self.mutual(), "/v1/link");
                link.send(Json{{"type", "hello"},
                               {"version", "1"},
                               {"agent", mallory->target.victim},
                               {"host", "mallory"}}
                              .dump());
                const auto text = link.receive(5s);
                if (!text) return false;
                const Json answer = Json::parse(*text);
                return answer.value("agent", "") == mallory->target.victim;
              });
            };
          }};
}

Attack replace_victim(const Shared& mallory) {
  return {"an enrollment in the victim's name with a used token", 1, [=] {
            return [=](Attempts& count) {
              count.attempt([&] {
                SimulatedAgent agent(mallory->address, mallory->target.victim);
                agent.enrol(mallory->target.token, true);
                return !agent.chain.empty();
              });
            };
          }};
}

}  // namespace

int enrolled_agent(const bench::Arguments& arguments) {
  Target target{arguments.text("api"),         arguments.text("agents"),
                arguments.text("fingerprint"), {},
                arguments.text("victim"),      arguments.text("credential")};
  std::ifstream(arguments.text("token-file")) >> target.token;
  const auto mallory = std::make_shared<Mallory>(target);
  const std::string nobody = "00000000000000000000000000000000";
  return run_attacks(
      "enrolled agent", std::chrono::seconds(arguments.number("seconds", 60)),
      {call("the victim's credential", mallory, "GET", "/v1/credentials/" + target.credential,
            nullptr),
       call("a rotation of the victim's key", mallory, "POST", "/v1/transport",
            {{"agent", target.victim},
             {"old_kid", nobody},
             {"spki", to_base64url(mallory->self.transport.spki)},
             {"envelope", "ECDH-ES+A256KW"}}),
       call("the end of a task of others", mallory, "POST", "/v1/tasks/" + nobody + "/end",
            {{"lease", nobody}, {"outcome", "done"}, {"text", ""}, {"result", ""}}),
       call("a certificate for another name", mallory, "POST", "/v1/certificates",
            {{"agent", target.victim}, {"csr", "none"}}),
       call("the people's API", mallory, "GET", "/v1/users", nullptr), false_hello(mallory),
       replace_victim(mallory)});
}

}  // namespace keyagent::attack
