// SPDX-License-Identifier: Apache-2.0
#pragma once
// The agent's half of API.md with keys in memory: what a real agent says, and what one that lies
// would say.

#include <openssl/evp.h>

#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <shared_mutex>
#include <thread>
#include <unordered_map>

#include "agent/base/encoding.h"
#include "agent/envelope/challenge.h"
#include "agent/openssl/signature_encoding.h"
#include "agent/pki/issuer.h"
#include "agent/tls/client.h"
#include "tests/instance/instance_address.h"
#include "tests/support/code_of.h"
#include "tests/support/software_keys.h"

namespace keyagent::test {

using Json = nlohmann::json;

// Thread-safe: thousands of agents may share one, under different names.

class SoftwareBackend final : public openssl::Backend {
 public:
  PublicKeyInfo add(const std::string& name, Purpose purpose, KeyAlgorithm algorithm) {
    const auto info = keys.add(name, purpose, algorithm);
    const std::unique_lock lock(mutex_);
    infos_[info.kid.text()] = info;
    return infos_[name] = info;
  }
  PublicKeyInfo find(const std::string& which) override {
    const std::shared_lock lock(mutex_);
    const auto found = infos_.find(which);
    if (found == infos_.end()) throw Error(Code::kKeyNotPresent, "no key " + which);
    return found->second;
  }
  PublicKeyInfo find_by_id(const Bytes&) override {
    throw Error(Code::kKeyNotPresent, "no key of this id");
  }
  Bytes sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) override {
    return keys.sign(kid, algorithm, input);
  }
  Bytes sign_message(const Kid& kid, SignatureAlgorithm algorithm, ByteView message) override {
    return keys.sign(kid, algorithm, sha256(message));  // ES256
  }
  PublicKeyInfo create(const std::string&, KeyAlgorithm, const std::string&) override {
    throw Error(Code::kUnsupported, "");
  }
  SoftwareKeys keys;

 private:
  std::shared_mutex mutex_;
  std::unordered_map<std::string, PublicKeyInfo> infos_;  // by name and by kid
};

class SimulatedAgent {
 public:
  // Of many agents: the keys of all, and one library on them.
  struct Shared {
    std::shared_ptr<SoftwareBackend> backend = std::make_shared<SoftwareBackend>();
    std::shared_ptr<tls::Library> library = std::make_shared<tls::Library>(backend);
  };

  SimulatedAgent(const InstanceAddress& instance, std::string id)
      : SimulatedAgent(instance, std::move(id), Shared(), {}) {}
  SimulatedAgent(const InstanceAddress& instance, std::string id, const Shared& shared)
      : SimulatedAgent(instance, id, shared, id + ".") {}

  std::string csr(const std::string& key = "auth") const {
    const auto info = backend->find(prefix_ + key);
    const Bytes der = pki::make_request(
        info.spki, {"/CN=" + id_, {}},
        {openssl::algorithm_identifier(SignatureAlgorithm::kEs256), [&](ByteView message) {
           return openssl::ecdsa_der(
               backend->sign_message(info.kid, SignatureAlgorithm::kEs256, message));
         }});
    return "-----BEGIN CERTIFICATE REQUEST-----\n" + base64(der) +
           "-----END CERTIFICATE REQUEST-----\n";
  }
  static std::string base64(const Bytes& der) {
    std::string out(der.size() * 2, '\0');
    out.resize(static_cast<std::size_t>(EVP_EncodeBlock(
        reinterpret_cast<unsigned char*>(out.data()), der.data(), static_cast<int>(der.size()))));
    std::string lines;
    for (std::size_t at = 0; at < out.size(); at += 64) lines += out.substr(at, 64) + "\n";
    return lines;
  }

  // Step 1; `token` as people have it.
  Json ask(const std::string& token = {}, bool replace = false) {
    Json request{
        {"agent", id_},
        {"csr", csr()},
        {"transport",
         {{"spki", to_base64url(transport.spki)}, {"envelope", name_of(transport.envelope)}}},
        {"host", "test"},
        {"version", "1"},
        {"replace", replace}};
    if (!token.empty()) request["token"] = token.substr(token.rfind('.') + 1);
    return api("POST", "/v1/enrollments", request);
  }
  // The answer to a challenge.
  std::string open(const std::string& envelope, const PublicKeyInfo& key) {
    const auto opened = envelope::open(backend->keys, key, as_bytes(envelope));
    return to_base64url(envelope::secret_of_challenge(opened).value());
  }
  Json enrol(const std::string& token = {}, bool replace = false) {
    const Json asked = ask(token, replace);
    enrollment_ = asked.at("enrolment");
    answer_ = open(asked.at("challenge"), transport);
    return take(api("POST", "/v1/enrollments/" + enrollment_ + "/proof", {{"answer", answer_}}));
  }
  Json poll() {
    return take(api("GET", "/v1/enrollments/" + enrollment_ + "?answer=" + answer_, nullptr));
  }
  Json take(const Json& answer) {
    if (answer.contains("certificate"))
      chain = pki::read_certificates(as_bytes(answer.at("certificate").get<std::string>()));
    return answer;
  }

  Json api(const std::string& method, const std::string& target, const Json& body) {
    tls::ClientOptions options;
    options.url = instance_->api_url();
    options.trust.anchor_spki_sha256 = instance_->fingerprint;
    return through(api_, options, method, target, body);
  }
  tls::ClientOptions mutual(const std::string& key = "auth") const {
    tls::ClientOptions options;
    options.url = address.empty() ? instance_->agents_url() : address;
    options.trust.anchor_spki_sha256 = instance_->fingerprint;
    options.identity = tls::Identity{backend->find(prefix_ + key).kid.text(), chain};
    return options;
  }
  Json call(const std::string& method, const std::string& target, const Json& body = nullptr,
            const std::string& key = "auth") {
    for (int left = tries;; --left) {
      try {
        return through(agents_, mutual(key), method, target, body);
      } catch (const Error& error) {
        if (left <= 1 || !retryable(error.code())) throw;
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
      }
    }
  }
  // The connections that `keep` has kept.
  void hang_up() {
    api_.reset();
    agents_.reset();
  }
  Json fetch(const std::string& credential) {
    const Json answer = call("GET", "/v1/credentials/" + credential);
    const auto envelope = answer.at("envelope").get<std::string>();
    const auto plaintext = envelope::open(backend->keys, transport, as_bytes(envelope));
    return Json::parse(plaintext.begin(), plaintext.end());
  }

  // A live link that has said hello and been welcomed.
  std::unique_ptr<tls::LinkClient> connect() {
    auto link = std::make_unique<tls::LinkClient>(library, mutual(), "/v1/link");
    link->send(Json{{"type", "hello"}, {"version", "1"}}.dump());
    welcome = receive(*link, "welcome");
    return link;
  }
  // The next message of this type.
  static Json receive(tls::LinkClient& link, const std::string& type) {
    for (int i = 0; i < 100; ++i) {
      const auto text = link.receive(std::chrono::seconds(10));
      if (!text) break;
      Json message = Json::parse(*text);
      if (message.at("type") == type) return message;
    }
    throw std::runtime_error("no " + type);
  }
  // Why the link ended: whatever comes before that is read, and no more than that.
  static Code end_of(tls::LinkClient& link) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (std::chrono::steady_clock::now() < until) {
      try {
        link.receive(std::chrono::seconds(1));
      } catch (const Error& error) {
        return error.code();
      }
    }
    return Code::kOk;
  }
  // Of a rotation to the key `fresh`: its path, and the answers to its challenges.
  struct Rotation {
    std::string path;
    Json answers;
  };
  Rotation begin_rotation(const PublicKeyInfo& fresh) {
    const Json asked = call("POST", "/v1/transport",
                            {{"old_kid", transport.kid.text()},
                             {"spki", to_base64url(fresh.spki)},
                             {"envelope", name_of(fresh.envelope)}});
    return {"/v1/transport/" + asked.at("rotation").get<std::string>(),
            {{"old", open(asked["challenges"]["old"], transport)},
             {"new", open(asked["challenges"]["new"], fresh)}}};
  }
  // All of a rotation; the new key is `transport` then. `tell` hears the steps of a rekey.
  using Tell = std::function<void(const std::string& step, const PublicKeyInfo& fresh)>;
  Json rotate(const Tell& tell = [](const auto&, const auto&) {}) {
    const auto fresh = add("next", Purpose::kTransport);
    tell("generated", fresh);
    const auto begun = begin_rotation(fresh);
    call("POST", begun.path + "/proof", begun.answers);
    tell("proved", fresh);
    const Json answer = call("POST", begun.path + "/switch", Json::object());
    previous = transport;
    transport = fresh;
    tell("switched", fresh);
    return answer;
  }

  // From now on it talks to this one.
  void use(const InstanceAddress& replica) { instance_ = &replica; }

  // Hears each answer; of the agents' listener, or of the people's.
  std::function<void(bool agents, const std::string& method, const std::string& target,
                     const tls::HttpResponse& answer)>
      heard;
  std::string address;  // of the agents' listener, if it is not the instance's own
  int tries = 1;        // of a call that fails and may be made again
  bool keep = false;    // a connection, for the calls that follow with the same key
  std::shared_ptr<SoftwareBackend> backend;
  std::shared_ptr<tls::Library> library;
  PublicKeyInfo auth, transport, previous;
  std::vector<Bytes> chain;
  Json welcome;

 private:
  SimulatedAgent(const InstanceAddress& instance, std::string id, const Shared& shared,
                 std::string prefix)
      : backend(shared.backend),
        library(shared.library),
        instance_(&instance),
        id_(std::move(id)),
        prefix_(std::move(prefix)) {
    auth = add("auth", Purpose::kAuth);
    transport = add("transport", Purpose::kTransport);
  }
  PublicKeyInfo add(const std::string& name, Purpose purpose) {
    return backend->add(prefix_ + name, purpose, KeyAlgorithm::kEcP256);
  }
  Json through(std::unique_ptr<tls::Client>& kept, const tls::ClientOptions& options,
               const std::string& method, const std::string& target, const Json& body) {
    auto client = kept ? std::move(kept) : std::make_unique<tls::Client>(library, options);
    const auto answer = client->call(method, target, body.is_null() ? std::string() : body.dump());
    if (heard) heard(&kept == &agents_, method, target, answer);
    if (keep) kept = std::move(client);
    return Json::parse(answer.body);
  }

  const InstanceAddress* instance_;
  const std::string id_, prefix_;  // prefix_: of the names of its keys
  std::string enrollment_, answer_;
  std::unique_ptr<tls::Client> api_, agents_;
};

}  // namespace keyagent::test
