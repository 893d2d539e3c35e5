// SPDX-License-Identifier: Apache-2.0
// T2, T12: programs that know only OpenSSL use the agent's keys through keyagent.so.

#include <gmock/gmock.h>
#include <openssl/provider.h>

#include <atomic>
#include <set>

#include "tests/e2e/openssl_fixture.h"
#include "tests/support/loaded_key.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class Provider : public OpensslTest {
 protected:
  void SetUp() override {
    start_with_provider();
    host_.write("data", "what is signed");
  }
  void TearDown() override {
    if (std::filesystem::exists(host_.file("nginx.pid")))
      try_command("kill $(cat " + host_.file("nginx.pid").string() + ")");
  }

  void create(const std::string& name, const std::string& purpose, const std::string& algorithm) {
    host_.json("key create " + name + " --purpose " + purpose + " --algorithm " + algorithm);
    EXPECT_EQ(host_.keyagent("key reference " + name + " -o " + name + ".key").status, 0);
  }
  // An authority of the test's own, with a key in software, certifies an auth key.
  void certify(const std::string& name) {
    if (!std::filesystem::exists(host_.file("ca.pem")))
      host_.shell(
          "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key "
          "-out "
          "ca.pem -subj /CN=authority -days 30");
    const auto csr = host_.keyagent(
        "key csr " + name + " --subject /CN=localhost --san DNS:localhost -o " + name + ".csr");
    ASSERT_EQ(csr.status, 0) << csr.output;
    host_.shell("openssl x509 -req -in " + name + ".csr -CA ca.pem -CAkey ca.key -CAcreateserial " +
                "-copy_extensions copy -days 10 -out " + name + ".pem");
  }
  // nginx with these keys, on its own port.
  void start_nginx(const std::vector<std::string>& keys) {
    port_ = std::to_string(free_port());
    configure_nginx(keys);
    run("nginx -p " + host_.work.path().string() + " -c nginx.conf");
  }
  void configure_nginx(const std::vector<std::string>& keys) const {
    const std::string here = host_.work.path().string();
    std::string pairs;
    for (const auto& key : keys)
      pairs += "ssl_certificate " + here + "/" + key + ".pem; ssl_certificate_key " + here + "/" +
               key + ".key; ";
    host_.write(
        "nginx.conf",
        std::string(::geteuid() == 0 ? "user root; " : "") +
            "worker_processes 2; pid nginx.pid; error_log error.log; events {}\nhttp { "
            "access_log off; client_body_temp_path t1; proxy_temp_path t2; "
            "fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;\n server { listen "
            "127.0.0.1:" +
            port_ + " ssl; ssl_protocols TLSv1.2 TLSv1.3; " + pairs +
            "ssl_session_cache off; ssl_session_tickets off; " + "ssl_client_certificate " + here +
            "/ca.pem; ssl_verify_client optional;\n" +
            "location / { return 200 \"$ssl_protocol $ssl_client_verify\"; } } }\n");
  }
  // Of the certificate that it serves now.
  std::string served_serial() const {
    return with_provider("openssl s_client -connect 127.0.0.1:" + port_ +
                         " </dev/null 2>/dev/null | openssl x509 -noout -serial")
        .output;
  }
  // What curl gets; `how` adds options.
  CommandResult fetch(const std::string& how = {}) const {
    return with_provider("timeout 30 curl -sS --max-time 20 --cacert ca.pem " + how +
                         " https://localhost:" + port_ + "/");
  }
  // Handshakes by curl while `work` runs; how many failed, and of how many.
  // `work` gets a function that returns when one more has succeeded.
  std::pair<int, int> handshakes_during(
      const std::function<void(const std::function<void()>& await_one)>& work) {
    std::atomic<bool> done{false};
    std::atomic<int> failed{0}, all{0};
    std::vector<std::thread> clients;
    for (int i = 0; i < 3; ++i) {
      clients.emplace_back([&] {
        while (!done) {
          failed += fetch("--retry 0 -o /dev/null").status == 0 ? 0 : 1;
          ++all;
        }
      });
    }
    work([&] {
      const int before = all - failed;
      EXPECT_TRUE(wait_until([&] { return all - failed > before; }));
    });
    done = true;
    for (auto& client : clients) client.join();
    return {failed, all};
  }

  std::string port_;
};

TEST_F(Provider, T12_OpensslSignsWithEveryKindOfKeyAndOthersVerify) {
  create("ec", "sign", "ec-p256");
  create("ec384", "sign", "ec-p384");
  create("rsa", "sign", "rsa-2048");
  create("ed", "sign", "ed25519");
  for (const std::string key : {"ec", "rsa", "ec384"}) {
    const std::string hash = key == "ec384" ? "-sha384" : "-sha256";
    for (const std::string& name :
         {"keyagent:" + key, "'pkcs11:object=" + key + ";type=private'", key + ".key"}) {
      run("openssl dgst " + hash + " -sign " + name + " -out sig data");
      host_.keyagent("key public " + key + " -o pub");
      host_.shell("openssl dgst " + hash + " -verify pub -signature sig data");
    }
  }
  host_.keyagent("key public rsa -o pub");
  run("openssl dgst -sha512 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest -sign "
      "keyagent:rsa -out sig data");
  host_.shell("openssl dgst -sha512 -sigopt rsa_padding_mode:pss -verify pub -signature sig data");
  run("openssl dgst -sha256 -binary data > digest; openssl pkeyutl -sign -inkey keyagent:ec -in "
      "digest -out sig -pkeyopt digest:sha256");
  host_.keyagent("key public ec -o pub");
  host_.shell("openssl dgst -sha256 -verify pub -signature sig data");
  run("openssl pkeyutl -sign -rawin -inkey ed.key -in data -out sig");
  host_.keyagent("key public ed -o pub");
  host_.shell("openssl pkeyutl -verify -rawin -pubin -inkey pub -in data -sigfile sig");
  run("openssl pkey -in keyagent:ec -pubout -out pub2; cmp pub2 pub || [ -s pub2 ]");
}

TEST_F(Provider, T12_ASignKeyIsACertificationAuthorityAndSignsCms) {
  create("authority", "sign", "rsa-2048");
  run("openssl req -x509 -new -key keyagent:authority -subj /CN=authority -days 30 -addext "
      "basicConstraints=critical,CA:TRUE -out ca.pem");
  host_.shell("openssl verify -CAfile ca.pem ca.pem");
  host_.shell(
      "openssl req -newkey rsa:2048 -nodes -keyout other.key -subj /CN=other -out other.csr");
  run("openssl x509 -req -in other.csr -CA ca.pem -CAkey keyagent:authority -CAcreateserial -days "
      "5 "
      "-out other.pem");
  host_.shell("openssl verify -CAfile ca.pem other.pem");
  run("openssl cms -sign -binary -in data -signer ca.pem -inkey authority.key -nodetach -outform "
      "PEM -out cms");
  host_.shell(
      "openssl cms -verify -in cms -inform PEM -CAfile ca.pem -purpose any -out verified; "
      "cmp verified data");
}

TEST_F(Provider, T2_ARequestHasTheFullSubjectAndItsNamesAndNoKeyFile) {
  create("web", "auth", "ec-p256");
  const std::string subject =
      "/C=DE/ST=Berlin/L=Berlin/O=Example GmbH/OU=Web/CN=www.example.org/"
      "emailAddress=ops@example.org";
  const auto made = host_.keyagent("key csr web --subject '" + subject +
                                   "' --san DNS:www.example.org --san IP:192.0.2.1 -o web.csr");
  ASSERT_EQ(made.status, 0) << made.output;
  host_.shell("openssl req -verify -noout -text -in web.csr -nameopt compat > text 2>&1");
  const auto text = host_.read("text");
  for (const char* part :
       {"C=DE", "ST=Berlin", "L=Berlin", "O=Example GmbH", "OU=Web", "CN=www.example.org",
        "ops@example.org", "DNS:www.example.org", "192.0.2.1", "verify OK"})
    EXPECT_THAT(text, HasSubstr(part));
  for (const std::string wrong :
       {"--subject CN=x", "--subject /CN", "--subject /XX=y", "--subject /C=Germany",
        "--subject /CN=x --san www.example.org", "--subject /CN=x --san IP:1.2.3",
        "--subject /CN=x --san DNS:a,DNS:b", "--subject /CN=x --algorithm RS256"})
    EXPECT_EQ(host_.keyagent("key csr web " + wrong).status, 2) << wrong;
  run("openssl req -new -key keyagent:web -subj /CN=x -out own.csr");
  host_.shell("openssl req -verify -noout -in own.csr");
}

TEST_F(Provider, Fault098_AnAuthKeySignsHandshakesAndItsOwnRequestAndNothingElse) {
  create("web", "auth", "ec-p256");
  create("webrsa", "auth", "rsa-2048");
  host_.json("key create credentials --purpose transport --algorithm rsa-2048");
  for (const std::string key : {"keyagent:web", "keyagent:webrsa", "web.key"}) {
    const auto signs = with_provider("openssl dgst -sha256 -sign " + key + " -out sig data");
    EXPECT_NE(signs.status, 0) << key;
    EXPECT_THAT(signs.output, HasSubstr("signs only TLS handshakes"));
  }
  EXPECT_NE(
      with_provider("openssl dgst -sha256 -binary data > digest; openssl pkeyutl -sign -inkey "
                    "keyagent:web -in digest -out sig -pkeyopt digest:sha256")
          .status,
      0);
  EXPECT_NE(
      with_provider("openssl req -x509 -new -key keyagent:web -subj /CN=ca -out ca.pem").status, 0)
      << "it certifies nothing";
  EXPECT_NE(with_provider("openssl dgst -sha256 -sign keyagent:credentials -out sig data").status,
            0);
  const auto absent = with_provider("openssl dgst -sha256 -sign keyagent:absent -out sig data");
  EXPECT_NE(absent.status, 0);
  EXPECT_THAT(absent.output, HasSubstr("KEY_NOT_PRESENT"));
  host_.json("key create store --purpose storage");
  EXPECT_EQ(host_.keyagent("key reference store").status, 2);
}

TEST_F(Provider, T12_NginxServesAndCurlAuthenticatesWithTokenKeys) {
  if (!program_there("nginx") || !program_there("curl")) GTEST_SKIP() << "nginx or curl is missing";
  create("web", "auth", "ec-p256");
  create("webrsa", "auth", "rsa-2048");
  create("client", "auth", "ec-p256");
  for (const char* name : {"web", "webrsa", "client"}) certify(name);
  start_nginx({"web", "webrsa"});
  EXPECT_EQ(fetch().output, "TLSv1.3 NONE");
  EXPECT_EQ(fetch("--tls-max 1.2").output, "TLSv1.2 NONE");
  EXPECT_EQ(fetch("--tls-max 1.2 --ciphers ECDHE-RSA-AES128-GCM-SHA256").output, "TLSv1.2 NONE");
  EXPECT_EQ(fetch("--cert client.pem --key client.key").output, "TLSv1.3 SUCCESS");
  EXPECT_EQ(fetch("--tls-max 1.2 --cert client.pem --key client.key").output, "TLSv1.2 SUCCESS");
  const auto s_client = with_provider("openssl s_client -brief -connect 127.0.0.1:" + port_ +
                                      " -CAfile ca.pem -cert client.pem -key keyagent:client "
                                      "</dev/null");
  EXPECT_THAT(s_client.output, HasSubstr("Verification: OK"));
  EXPECT_THAT(host_.audit(), HasSubstr("TLS 1.3 handshake"));
  EXPECT_THAT(host_.audit(), HasSubstr("TLS 1.2 key exchange"));
}

TEST_F(Provider, T12_StunnelAndPythonUseTheSameKey) {
  create("web", "auth", "ec-p256");
  certify("web");
  host_.write("server.py",
              "import ssl, socket, sys, threading\n"
              "def context(side):\n"
              "  c = ssl.SSLContext(side)\n"
              "  c.load_verify_locations('ca.pem')\n"
              "  c.load_cert_chain('web.pem', 'web.key')\n"
              "  return c\n"
              "s = socket.create_server(('127.0.0.1', 0))\n"
              "server = context(ssl.PROTOCOL_TLS_SERVER)\n"
              "server.verify_mode = ssl.CERT_REQUIRED\n"
              "def serve():\n"
              "  raw, _ = s.accept()\n"
              "  server.wrap_socket(raw, server_side=True).sendall(b'from python')\n"
              "t = threading.Thread(target=serve); t.start()\n"
              "client = context(ssl.PROTOCOL_TLS_CLIENT)\n"
              "with client.wrap_socket(socket.create_connection(s.getsockname()), "
              "server_hostname='localhost') as c: print(c.recv(99).decode())\n"
              "t.join()\n");
  EXPECT_EQ(with_provider("python3 server.py").output, "from python\n");
  if (!program_there("stunnel")) GTEST_SKIP() << "stunnel is missing";
  port_ = std::to_string(free_port());
  host_.write("stunnel.conf",
              "foreground = no\npid = " + host_.file("nginx.pid").string() + "\noutput = " +
                  host_.file("stunnel.log").string() + "\n[echo]\naccept = 127.0.0.1:" + port_ +
                  "\ncert = web.pem\nkey = web.key\nexec = /bin/echo\nexecArgs = echo "
                  "from stunnel\n");
  run("stunnel stunnel.conf");
  EXPECT_THAT(with_provider("openssl s_client -quiet -verify_quiet -verify_return_error -CAfile "
                            "ca.pem -connect 127.0.0.1:" +
                            port_ + " </dev/null")
                  .output,
              HasSubstr("from stunnel"));
}

TEST_F(Provider, Fault125_NginxReloadedAHundredTimesUnderLoadFailsNoHandshake) {
  if (!program_there("nginx") || !program_there("curl")) GTEST_SKIP() << "nginx or curl is missing";
  create("web", "auth", "ec-p256");
  certify("web");
  start_nginx({"web"});
  const auto [failed, all] = handshakes_during([&](const auto& await_one) {
    for (int i = 0; i < 100; ++i) {
      host_.shell("kill -HUP $(cat nginx.pid)");
      await_one();
    }
  });
  EXPECT_EQ(failed, 0) << "of " << all << "\n" << host_.read("error.log");
  EXPECT_GE(all, 100);
}

TEST_F(Provider, T8_NginxTakesRenewedCertificatesUnderLoadAndDropsNoHandshake) {
  if (!program_there("nginx") || !program_there("curl")) GTEST_SKIP() << "nginx or curl is missing";
  create("web", "auth", "ec-p256");
  certify("web");
  start_nginx({"web"});
  std::vector<std::string> serials{served_serial()};
  const auto takes = [&](const std::string& key) {
    configure_nginx({key});
    host_.shell("kill -HUP $(cat nginx.pid)");
    ASSERT_TRUE(wait_until([&] { return served_serial() != serials.back(); }));
    serials.push_back(served_serial());
  };
  const auto [failed, all] = handshakes_during([&](const auto& await_one) {
    certify("web");  // the same key again
    takes("web");
    for (const std::string next : {"web-2", "web-3"}) {  // and with a new one
      create(next, "auth", "ec-p256");
      certify(next);
      takes(next);
      await_one();
    }
  });
  EXPECT_EQ(failed, 0) << "of " << all << "\n" << host_.read("error.log");
  EXPECT_GT(all, 0);
  EXPECT_EQ(std::set<std::string>(serials.begin(), serials.end()).size(), 4u);
}

TEST_F(Provider, Fault126_TheAgentRestartedTwentyTimesUnderLoadFailsNoHandshake) {
  if (!program_there("nginx") || !program_there("curl")) GTEST_SKIP() << "nginx or curl is missing";
  create("web", "auth", "ec-p256");
  certify("web");
  start_nginx({"web"});
  const auto [failed, all] = handshakes_during([&](const auto& await_one) {
    for (int i = 0; i < 20; ++i) {
      i % 2 == 0 ? host_.kill() : static_cast<void>(host_.stop());
      host_.start();
      ASSERT_TRUE(host_.serving()) << host_.story();
      await_one();
    }
  });
  EXPECT_EQ(failed, 0) << "of " << all << "\n" << host_.read("error.log");
  EXPECT_GE(all, 20);
}

// --- in our own program
// -------------------------------------------------------------------------------------------------

class Loaded : public Provider {
 protected:
  void SetUp() override {
    Provider::SetUp();
    ::setenv("KEYAGENT_SOCKET", host_.socket().c_str(), 1);
    library_ = OSSL_LIB_CTX_new();
    ASSERT_NE(OSSL_PROVIDER_load(library_, "default"), nullptr);
    const std::string module = KEYAGENT_PROVIDER;
    provider_ = OSSL_PROVIDER_load(library_, module.c_str());
    ASSERT_NE(provider_, nullptr);
  }
  void TearDown() override {
    if (provider_ != nullptr) OSSL_PROVIDER_unload(provider_);
    OSSL_LIB_CTX_free(library_);
    Provider::TearDown();
  }
  Pkey load(const std::string& uri) const { return load_key(library_, uri); }
  bool signs(EVP_PKEY* key) const { return signs_with(library_, key); }

  OSSL_LIB_CTX* library_ = nullptr;
  OSSL_PROVIDER* provider_ = nullptr;
};

TEST_F(Loaded, T12_ManyThreadsSignWithOneKey) {
  create("signer", "sign", "ec-p256");
  const auto key = load("keyagent:signer");
  ASSERT_TRUE(key);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) wrong += signs(key.get()) ? 0 : 1;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(Loaded, Fault125_ForkedChildrenSignAndTheParentStillSigns) {
  create("signer", "sign", "rsa-2048");
  const auto key = load("keyagent:signer");
  ASSERT_TRUE(key);
  EXPECT_TRUE(signs(key.get()));
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(signs(key.get()) && signs(key.get()) ? 0 : 1);
    children.push_back(child);
  }
  EXPECT_TRUE(signs(key.get()));
  for (const pid_t child : children) {
    int status = 1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
}

TEST_F(Loaded, SoftwareKeysStayWithTheDefaultProvider) {
  create("signer", "sign", "ec-p256");
  const Pkey software(EVP_PKEY_Q_keygen(library_, nullptr, "EC", "P-256"), EVP_PKEY_free);
  ASSERT_TRUE(software);
  EXPECT_STREQ(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(software.get())), "default");
  EXPECT_TRUE(signs(software.get()));
  EXPECT_EQ(EVP_PKEY_eq(software.get(), load("keyagent:signer").get()), 0);
}

TEST_F(Loaded, AKeyIsMadeInTheTokenByOpenssl) {
  const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(
      EVP_PKEY_CTX_new_from_name(library_, "EC", "provider=keyagent"), EVP_PKEY_CTX_free);
  ASSERT_EQ(EVP_PKEY_keygen_init(context.get()), 1);
  char name[] = "made", purpose[] = "sign", group[] = "P-384";
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("keyagent-name", name, 0),
                               OSSL_PARAM_construct_utf8_string("keyagent-purpose", purpose, 0),
                               OSSL_PARAM_construct_utf8_string("group", group, 0),
                               OSSL_PARAM_construct_end()};
  ASSERT_EQ(EVP_PKEY_CTX_set_params(context.get(), params), 1);
  EVP_PKEY* made = nullptr;
  ASSERT_EQ(EVP_PKEY_generate(context.get(), &made), 1);
  EXPECT_EQ(EVP_PKEY_get_bits(made), 384);
  EXPECT_EQ(host_.json("key show made").at("algorithm"), "ec-p384");
  EXPECT_EQ(EVP_PKEY_eq(made, load("keyagent:made").get()), 1);
  EVP_PKEY_free(made);
}

TEST_F(Loaded, AnAgentThatIsAwayIsNamedInTheErrorQueue) {
  create("signer", "sign", "ec-p256");
  EXPECT_FALSE(load("keyagent:absent"));
  EXPECT_FALSE(load("pkcs11:token=x")) << "names no key";
}

}  // namespace
}  // namespace keyagent::test
