// SPDX-License-Identifier: Apache-2.0
// Re-encryption of an instance's records: how many a second. Fills its store beside it, rekeys
// their key and has all of them put under the new one.
//   --api URL --fingerprint TEXT --user NAME --password-file FILE (an admin) --store URL --socket
//   PATH (of its keyagentd) --id ID (of the instance) --pid N (of keyinstanced) [--records N]
//   [--name NAME]
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "agent/instance/data/data_keys.h"
#include "agent/store/data_keys.h"
#include "agent/store/engine/database.h"
#include "agent/store/store.h"
#include "agent/tls/client.h"
#include "tests/bench/measure.h"
#include "tests/bench/process_facts.h"
#include "tests/instance/simulated_agent.h"

namespace keyagent::bench {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr const char* kSpecification = "bench";
constexpr unsigned kDistinct = 1000, kBatch = 500;

class Run {
 public:
  explicit Run(const Arguments& arguments)
      : name_(arguments.text("name", "reencrypt")),
        records_(arguments.number("records", 100000)),
        process_(arguments.text("pid")),
        store_url_(arguments.text("store")),
        store_({store_url_}),
        client_(std::make_shared<tls::Library>(std::make_shared<test::SoftwareBackend>()),
                options(arguments)) {
    config_.id = arguments.text("id");
    config_.agent_socket = arguments.text("socket");
    keys_.emplace(config_);
    std::ifstream file(arguments.text("password-file"));
    std::string password;
    std::getline(file, password);
    session_ = call("POST", "/v1/login",
                    {{"user", arguments.text("user")}, {"password", password}})["session"];
  }

  void all() {
    call("POST", "/v1/specifications", {{"name", kSpecification}});
    fill();
    const std::string before = active();
    call("POST", std::string("/v1/specifications/") + kSpecification + "/rekey");
    while (active() == before) std::this_thread::sleep_for(50ms);
    const auto begin = Clock::now();
    const double cpu = process_.cpu();
    Json job = call("POST", std::string("/v1/reencryptions/") + kSpecification).at(0);
    while (job.at("state") == "running") {
      std::this_thread::sleep_for(100ms);
      job = call("GET", std::string("/v1/reencryptions/") + kSpecification).at(0);
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    const Json line{{"name", name_},
                    {"records", records_},
                    {"operations", job.at("done")},
                    {"seconds", seconds},
                    {"per_second", job.at("done").get<double>() / seconds},
                    {"cpu_percent", 100 * (process_.cpu() - cpu) / seconds},
                    {"failures", job.at("left")}};
    std::printf("%s\n", line.dump().c_str());
  }

 private:
  static tls::ClientOptions options(const Arguments& arguments) {
    tls::ClientOptions options;
    options.url = arguments.text("api");
    options.trust.anchor_spki_sha256 = arguments.text("fingerprint");
    options.timeout = 10min;
    return options;
  }
  // The answer; of a list its only member is what is listed.
  Json call(const std::string& method, const std::string& target, const Json& body = nullptr) {
    std::map<std::string, std::string> headers;
    if (!session_.empty()) headers["authorization"] = "Bearer " + session_;
    Json answer = Json::parse(
        client_.call(method, target, body.is_null() ? std::string() : body.dump(), headers).body);
    const bool listed = answer.size() == 1 && answer.begin()->is_array();
    return listed ? *answer.begin() : answer;
  }
  std::string active() {
    return call("GET", std::string("/v1/specifications/") + kSpecification).at(0).at("active");
  }

  // As records are, but many in one transaction, and many with the same value.
  void fill() {
    std::vector<instance::DataKeys::Sealed> sealed;
    for (unsigned i = 0; i < std::min(kDistinct, records_); ++i) {
      const std::string value = "value " + std::to_string(i) + std::string(100, '.');
      sealed.push_back(keys_->seal(kSpecification, SecretBytes(value.begin(), value.end())));
    }
    store_.data_keys().add({sealed.front().kid, kSpecification, keys_->source(), {}});
    store::Database database({store_url_, 1});
    for (unsigned from = 0; from < records_; from += kBatch) {
      database.write([&](store::Sql& sql) {
        for (unsigned i = from; i < std::min(from + kBatch, records_); ++i) {
          const auto& each = sealed[i % sealed.size()];
          sql.run(
              "INSERT INTO records (specification, id, kid, version, envelope, changed_by, "
              "changed) "
              "VALUES (:specification, :id, :kid, 1, :envelope, 'bench', 0)",
              {{"specification", kSpecification},
               {"id", "r" + std::to_string(10000000 + i)},
               {"kid", each.kid},
               {"envelope", each.envelope}});
        }
      });
    }
  }

  const std::string name_;
  const unsigned records_;
  const ProcessFacts process_;
  const std::string store_url_;
  store::Store store_;
  instance::InstanceConfig config_;
  std::optional<instance::DataKeys> keys_;
  tls::Client client_;
  std::string session_;
};

int body(const Arguments& arguments) {
  Run(arguments).all();
  return 0;
}

}  // namespace
}  // namespace keyagent::bench

int main(int argc, char** argv) {
  return keyagent::bench::guarded(argc, argv, keyagent::bench::body);
}
