// SPDX-License-Identifier: Apache-2.0
// T3: from the request to the handshake: an authority's certificate is installed beside its key,
// and programs take both from the agent.

#include <gmock/gmock.h>

#include "tests/e2e/openssl_fixture.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

class Certificate : public OpensslTest {
 protected:
  void SetUp() override {
    start_with_provider();
    host_.write("web.ext",
                "[middle]\nbasicConstraints=critical,CA:TRUE,pathlen:0\n"
                "keyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n"
                "authorityKeyIdentifier=keyid\n"
                "[server]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
                "extendedKeyUsage=serverAuth,clientAuth\nsubjectKeyIdentifier=hash\n"
                "authorityKeyIdentifier=keyid\nsubjectAltName=DNS:localhost\n");
    const std::string key = " -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes ";
    host_.shell("openssl req -x509" + key + "-keyout ca.key -out ca.pem -subj /CN=root -days 30");
    host_.shell("openssl req" + key + "-keyout middle.key -out middle.csr -subj /CN=middle");
    host_.shell("openssl x509 -req -in middle.csr -CA ca.pem -CAkey ca.key -CAcreateserial " +
                std::string("-days 20 -extfile web.ext -extensions middle -out middle.pem"));
    web_ = host_.json("key create web --purpose auth --algorithm ec-p256").at("kid");
  }
  void TearDown() override {
    if (std::filesystem::exists(host_.file("server.pid")))
      try_command("kill $(cat " + host_.file("server.pid").string() + ")");
  }

  // What the middle authority makes of the request of `key`: NAME.pem.
  void certify(const std::string& key, const std::string& name,
               const std::string& how = "-days 10 -extfile web.ext -extensions server") {
    const auto csr =
        host_.keyagent("key csr " + key + " --subject /CN=localhost -o " + key + ".csr");
    ASSERT_EQ(csr.status, 0) << csr.output;
    host_.shell("openssl x509 -req -in " + key + ".csr -CA middle.pem -CAkey middle.key " +
                "-CAcreateserial " + how + " -out " + name + ".pem");
  }
  // A command of openssl that serves on its own port until the end of the test.
  std::string serve(const std::string& how) {
    const auto port = std::to_string(free_port());
    const auto started = with_provider("openssl s_server -accept " + port + " -www " + how +
                                       " >server.log 2>&1 </dev/null & echo $! >server.pid");
    EXPECT_EQ(started.status, 0) << started.output;
    wait_until([&] { return host_.read("server.log").find("ACCEPT") != std::string::npos; });
    return port;
  }

  std::string web_;
};

TEST_F(Certificate, T3_InstalledFromAShuffledFileAndServedFromTheAgent) {
  certify("web", "web");
  host_.shell("cat middle.pem ca.pem web.pem > shuffled.pem");
  const auto installed =
      host_.json("key certificate install web shuffled.pem --ca ca.pem --host localhost");
  EXPECT_EQ(installed.at("changed"), true);
  EXPECT_EQ(host_.json("key certificate install web shuffled.pem").at("changed"), false);
  EXPECT_THAT(host_.keyagent("key certificate install web shuffled.pem").output,
              HasSubstr("already installed for web"));
  EXPECT_EQ(host_.keyagent("key certificate show web --format pem -o chain.pem").status, 0);
  host_.shell("cat web.pem middle.pem ca.pem > ordered.pem; cmp chain.pem ordered.pem");
  EXPECT_THAT(host_.keyagent("key certificate show web").output, HasSubstr("DNS:localhost"));
  EXPECT_THAT(host_.keyagent("status").output, HasSubstr("certificate until"));

  const auto stored = with_provider("openssl storeutl -certs keyagent:web");
  EXPECT_THAT(stored.output, HasSubstr("Total found: 3"));
  EXPECT_THAT(with_provider("openssl storeutl -certs 'pkcs11:object=web;type=cert'").output,
              HasSubstr("Total found: 3"));
  EXPECT_THAT(with_provider("openssl storeutl -noout 'pkcs11:object=web;type=private'").output,
              HasSubstr("Total found: 1"));
  EXPECT_THAT(with_provider("openssl storeutl -noout keyagent:web").output,
              HasSubstr("Total found: 4"));
  EXPECT_EQ(with_provider("openssl x509 -in keyagent:web -out own.pem; cmp own.pem web.pem").status,
            0);

  const std::string port = serve("-key keyagent:web -cert keyagent:web -cert_chain keyagent:web");
  const auto seen = with_provider(
      "timeout 30 openssl s_client -brief -verify_return_error -CAfile "
      "ca.pem -verify_hostname localhost -connect 127.0.0.1:" +
      port + " </dev/null");
  EXPECT_THAT(seen.output, HasSubstr("Verification: OK")) << host_.read("server.log");
  const auto curl = try_command("cd '" + host_.work.path().string() +
                                "' && curl -sS --max-time 20 -o /dev/null --cacert ca.pem "
                                "https://localhost:" +
                                port + "/ 2>&1");
  EXPECT_TRUE(curl.status == 0 || !program_there("curl")) << curl.output;
  EXPECT_TRUE(wait_until([this] {
    return host_.audit().find("TLS 1.3 handshake") != std::string::npos;
  })) << host_.audit();
}

TEST_F(Certificate, Fault176_ATrustBundleOfASystemIsWhatCaTakes) {
  certify("web", "web");
  host_.shell("cat web.pem middle.pem > chain.pem");
  const std::string system = "/etc/ssl/certs/ca-certificates.crt";
  if (!std::filesystem::exists(system)) GTEST_SKIP() << "ca-certificates is not installed";
  host_.shell("cat " + system + " > without.pem; cat without.pem ca.pem > bundle.pem");
  const auto refused = host_.keyagent("key certificate install web chain.pem --ca without.pem");
  EXPECT_EQ(refused.status, 6) << refused.output;
  EXPECT_THAT(refused.output, HasSubstr("does not lead to any of the given authorities"));
  const auto installed = host_.json("key certificate install web chain.pem --ca bundle.pem");
  EXPECT_EQ(installed.at("changed"), true);
}

TEST_F(Certificate, Fault176_FormsInWhichPeopleHandCertificatesOver) {
  certify("web", "web");
  host_.shell("cat web.pem middle.pem ca.pem > chain.pem");
  const std::pair<const char*, const char*> kForms[] = {
      {"CRLF", "sed 's/$/\\r/' chain.pem > in"},
      {"byte order mark", "{ printf '\\357\\273\\277'; cat chain.pem; } > in"},
      {"indented", "sed 's/^/    /' chain.pem > in"},
      {"PKCS#7", "openssl crl2pkcs7 -nocrl -certfile chain.pem -outform DER -out in"},
      {"PKCS#7 in a CERTIFICATE block",
       "openssl crl2pkcs7 -nocrl -certfile chain.pem | sed 's/PKCS7/CERTIFICATE/' > in"},
      {"TRUSTED CERTIFICATE",
       "{ cat web.pem; openssl x509 -in middle.pem -trustout -addtrust serverAuth; } > in"},
      {"DER and a line feed",
       "{ for c in web middle; do openssl x509 -in $c.pem -outform DER; done; echo; } > in"}};
  for (const auto& [name, line] : kForms) {
    host_.shell(line);
    const auto said = host_.keyagent("key certificate install web in --ca ca.pem");
    EXPECT_EQ(said.status, 0) << name << said.output;
    host_.json("key certificate remove web");
  }
  host_.shell("iconv -t UTF-16 chain.pem > in");
  EXPECT_THAT(host_.keyagent("key certificate install web in --ca ca.pem").output,
              HasSubstr("UTF-16"));
  host_.shell("openssl pkcs12 -export -nokeys -in chain.pem -passout pass:x -out in");
  EXPECT_THAT(host_.keyagent("key certificate install web in --ca ca.pem").output,
              HasSubstr("PKCS#12"));
}

TEST_F(Certificate, Fault178_AYearThatNoClockReachesIsShownAsItIs) {
  certify("web", "web");
  host_.write(
      "ca.cnf",
      "[ca]\ndefault_ca = c\n[c]\ndatabase = index.txt\nserial = serial\nnew_certs_dir = .\n"
      "default_md = sha256\npolicy = p\nunique_subject = no\n[p]\ncommonName = supplied\n");
  host_.shell("touch index.txt; echo 01 > serial");
  for (const std::string until :
       {"20371231235959Z", "20491231235959Z", "20500101000000Z", "99991231235959Z"}) {
    host_.shell(
        "openssl ca -batch -config ca.cnf -cert middle.pem -keyfile middle.key -in web.csr "
        "-notext -startdate 20200101000000Z -enddate " +
        until + " -extfile web.ext -extensions server -out dated.pem 2>&1");
    const auto installed = host_.json("key certificate install web dated.pem");
    const std::string shown = installed.at("chain").at(0).at("not_after");
    EXPECT_EQ(shown.substr(0, 10),
              until.substr(0, 4) + "-" + until.substr(4, 2) + "-" + until.substr(6, 2));
    EXPECT_EQ(host_.keyagent("doctor").output.find("expired"), std::string::npos) << until;
  }
}

TEST_F(Certificate, Fault175_Fault177_RequestsFromTheCommandLine) {
  const auto csr = [&](const std::string& words) {
    return host_.keyagent("key csr web " + words + " -o out.csr");
  };
  for (const char* subject : {"--subject /", "--subject=", ""}) {
    const auto made = csr(subject + std::string(" --san DNS:a.example"));
    EXPECT_EQ(made.status, 0) << subject << made.output;
    host_.shell("openssl req -in out.csr -noout -verify -text 2>&1 | grep -q DNS:a.example");
  }
  EXPECT_EQ(csr("").status, 2);
  for (const char* end : {"\\r", "\\n", "\\t"}) {
    const auto said = csr("--subject /CN=x --san \"$(printf 'DNS:a.example" + std::string(end) +
                          "x')\" --san DNS:b.example");
    EXPECT_EQ(said.status, 2) << end << said.output;
    EXPECT_THAT(said.output, HasSubstr("not a usable alternative name"));
  }
  EXPECT_EQ(csr("--subject '/DC=org/UID=123456+CN=Jo Doe'").status, 0);
  host_.shell("openssl req -in out.csr -noout -subject -nameopt RFC2253 | grep -q '+CN=Jo Doe'");
}

TEST_F(Certificate, Fault175_AUriThatNamesTwoKeysNamesNone) {
  for (const char* name : {"one", "two"})
    host_.json("key create " + std::string(name) + " --purpose sign --algorithm ec-p256");
  host_.write("data", "d");
  const auto sign = [&](const std::string& uri) {
    return with_provider("openssl dgst -sha256 -sign '" + uri + "' -out sig data").status;
  };
  EXPECT_EQ(sign("pkcs11:object=one"), 0);
  for (const char* uri :
       {"pkcs11:object=one;object=two", "pkcs11:object=one;type=private;object=two",
        "pkcs11:object=one;type=cert;type=private", "pkcs11:object=one;object=one"})
    EXPECT_NE(sign(uri), 0) << uri;
}

TEST_F(Certificate, T3_InvalidCertificatesAreRefusedWithTheReasonAndNothingChanges) {
  host_.json("key create other --purpose auth --algorithm ec-p256");
  certify("web", "web");
  certify("other", "other");
  certify("web", "v1", "-days 10 -extensions server");
  certify("web", "nouse", "-days 10 -extfile web.ext -extensions middle");
  certify("web", "expired", "-days 0 -extfile web.ext -extensions server");
  host_.json("key certificate install web web.pem");
  const auto epoch = host_.json("status").at("ledger_epoch");
  const auto refused = [&](const std::string& words, int status) {
    const auto result = host_.keyagent("key certificate install web " + words);
    EXPECT_EQ(result.status, status) << words << "\n" << result.output;
    return result.output;
  };
  EXPECT_THAT(refused("other.pem", 6), testing::AllOf(HasSubstr("another key"), HasSubstr(web_)));
  EXPECT_THAT(refused("expired.pem", 2), HasSubstr("has expired"));
  EXPECT_THAT(refused("v1.pem", 2), HasSubstr("-extfile"));
  EXPECT_THAT(refused("nouse.pem", 2), HasSubstr("serverAuth"));
  EXPECT_THAT(refused("web.pem --ca ca.pem", 6), HasSubstr("CN=middle"));
  EXPECT_THAT(refused("web.pem --host www.example.org", 2), HasSubstr("DNS:localhost"));
  EXPECT_THAT(refused("ca.key", 2), HasSubstr("private key"));
  EXPECT_THAT(refused("web.csr", 2), HasSubstr("request"));
  EXPECT_EQ(host_.json("status").at("ledger_epoch"), epoch);
  host_.keyagent("key certificate show web --format pem -o kept.pem");
  host_.shell("cmp kept.pem web.pem");
  EXPECT_EQ(host_.keyagent("key certificate show other").status, 3);
}

TEST_F(Certificate, T3_StaysAcrossARestartAndARekeyNeedsItsOwn) {
  certify("web", "web");
  host_.json("key certificate install web web.pem");
  host_.kill();
  host_.start();
  ASSERT_TRUE(host_.serving()) << host_.story();
  EXPECT_EQ(host_.json("key certificate show web").at("chain").size(), 1u);
  EXPECT_EQ(host_.keyagent("rekey web --wait").status, 0);
  EXPECT_THAT(host_.keyagent("doctor").output, HasSubstr("generation 2 has no certificate"));
  EXPECT_THAT(host_.keyagent("status").output, HasSubstr("NO CERTIFICATE"));
  EXPECT_NE(with_provider("openssl x509 -in keyagent:web -noout").status, 0);
  certify("web", "second");
  host_.json("key certificate install web second.pem");
  EXPECT_EQ(host_.keyagent("key certificate remove web").status, 0);
  EXPECT_EQ(host_.keyagent("key certificate show web").status, 3);
}

TEST_F(Certificate, T3_CertificateCommandsReportWhatExistsAndWhatIsMissing) {
  const auto none = host_.keyagent("key certificate show web");
  EXPECT_EQ(none.status, 3);
  EXPECT_THAT(none.output, HasSubstr("keyagent key csr"));
  EXPECT_EQ(host_.json("key certificate remove web").at("changed"), false);
  EXPECT_EQ(host_.keyagent("key certificate install web /nonexistent").status, 2);
  const auto rubbish = host_.json("key certificate install web /dev/null", 2);
  EXPECT_EQ(rubbish.at("error").at("code"), "USAGE");
  EXPECT_EQ(host_.keyagent("key certificate install absent - ", "printf x |").status, 3);
  EXPECT_EQ(host_.keyagent("key certificate show web --format der").status, 2);
  EXPECT_EQ(host_.keyagent("key certificate").status, 2);
  EXPECT_EQ(host_.json("key show web").at("certificate_until"), "");
}

}  // namespace
}  // namespace keyagent::test
