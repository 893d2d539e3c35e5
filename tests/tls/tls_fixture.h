// SPDX-License-Identifier: Apache-2.0
#pragma once
// A server and clients whose keys are in one SoftHSM token, and an authority that certifies them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "agent/tls/client.h"
#include "tests/support/soft_hsm.h"
#include "tests/support/test_ca.h"
#include "tests/support/vault_backend.h"

namespace keyagent::tls::test {

using namespace std::chrono_literals;
using keyagent::test::TestCa;

// What a refusal was.
struct Refusal {
  std::string address;
  Code code = Code::kOk;
  std::string text;
};

template <class Work>
Refusal refusal_of(Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    return {"", error.code(), error.what()};
  }
  return {};
}

// Polls the condition for up to 60 s, which is enough for a slow machine.
inline bool eventually(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + 60s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(10ms);
  }
  return true;
}

class Tls : public testing::Test {
  // Before OpenSSL ends, which is at exit().
  struct Ending : testing::Environment {
    void TearDown() override {
      library_.reset();
      backend_.reset();
    }
    keyagent::test::SoftHsm hsm;
  };

 protected:
  // One token for all tests of a program: its making takes longer than they do.
  static void SetUpTestSuite() {
    if (backend_) return;
    auto* ending = new Ending;  // GoogleTest's own from here on
    testing::AddGlobalTestEnvironment(ending);
    backend_ = std::make_shared<keyagent::test::VaultBackend>(ending->hsm.open());
    backend_->create("server", KeyAlgorithm::kEcP256, "auth");
    backend_->create("client", KeyAlgorithm::kEcP256, "auth");
    backend_->create("rsa", KeyAlgorithm::kRsa2048, "auth");
    library_ = std::make_shared<Library>(backend_);
  }
  void SetUp() override { backend_->denied = false; }
  // Before the members of a derived fixture, which its handlers use.
  void TearDown() override { server_.reset(); }

  Bytes spki(const std::string& key) const { return backend_->find(key).spki; }
  std::string kid(const std::string& key) const { return backend_->find(key).kid.text(); }
  Identity identity(const std::string& key, const TestCa& ca, const TestCa::Wish& wish) const {
    return {key, {ca.issue(spki(key), wish), ca.root()}};
  }
  Identity identity(const std::string& key) const { return identity(key, ca_, {}); }
  Trust trust() const { return {{ca_.root()}, {}, {}}; }
  ServerOptions options() const {
    ServerOptions options;
    options.address = "127.0.0.1";
    return options;
  }

  HttpResponse answer(const HttpRequest& request) const {
    if (request.path == "/error") throw Error(Code::kDenied, "not for \"you\"", "kid-4711");
    HttpResponse response;
    response.type = "text/plain";
    response.body = request.method + " " + request.path;
    for (const auto& [name, value] : request.query) response.body += " " + name + "=" + value;
    response.body += " " + request.peer.tls_version + " " + request.peer.kid + "\n" + request.body;
    return response;
  }
  virtual Handlers handlers() {
    Handlers calls;
    calls.request = [this](const HttpRequest& request) { return answer(request); };
    calls.refused = [this](const std::string& address, Code code, const std::string& text) {
      const std::lock_guard lock(mutex_);
      refused_.push_back({address, code, text});
      changed_.notify_all();
    };
    return calls;
  }
  Server& serve(const Identity& identity, const Trust& trust, const ServerOptions& options) {
    server_ = std::make_unique<Server>(library_, identity, trust, options, handlers());
    return *server_;
  }
  Server& serve() { return serve(identity("server"), trust(), options()); }

  std::string url(const std::string& host = "127.0.0.1") const {
    return "https://" + host + ":" + std::to_string(server_->port());
  }
  ClientOptions client_options() const {
    ClientOptions options;
    options.url = url();
    options.identity = identity("client");
    options.trust = trust();
    options.timeout = 20s;
    return options;
  }
  Client client() const { return Client(library_, client_options()); }

  // What the server refused last; waits for it.
  Refusal server_refusal() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, 10s, [this] { return !refused_.empty(); });
    if (refused_.empty()) return {};
    const Refusal last = refused_.back();
    refused_.clear();
    return last;
  }

  static inline std::shared_ptr<keyagent::test::VaultBackend> backend_;
  static inline std::shared_ptr<Library> library_;
  const TestCa ca_, other_ca_{"other root"};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Refusal> refused_;
  std::unique_ptr<Server> server_;
};

}  // namespace keyagent::tls::test
