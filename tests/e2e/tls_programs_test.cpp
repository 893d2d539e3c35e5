// SPDX-License-Identifier: Apache-2.0
// T12: openssl s_server and s_client, PostgreSQL and psql, and openssl ca with keys of the agent.

#include <gmock/gmock.h>
#include <grp.h>
#include <pwd.h>

#include "tests/e2e/openssl_fixture.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// Who runs a server that root may not run: the account of its package, or oneself.
std::string account() {
  if (::geteuid() != 0) return ::getpwuid(::geteuid())->pw_name;
  return ::getpwnam("postgres") != nullptr ? "postgres" : "nobody";
}

class TlsPrograms : public OpensslTest {
 protected:
  void SetUp() override {
    const auto rule = [](const std::string& name, const std::string& what, uid_t uid) {
      return "  - {name: " + name + ", allow: [" + what + "], who: {user: \"" +
             std::to_string(uid) + "\"}}\n";
    };
    const uid_t other = ::getpwnam(account().c_str())->pw_uid;
    host_.AgentProcess::write(
        "policy.yml",
        "rules:\n" + rule("test", "sign, public, create, status, admin", ::geteuid()) +
            (other == ::geteuid() ? "" : rule("server", "sign, public", other)),
        0644);
    start_with_provider();
    std::filesystem::permissions(host_.work.path(), std::filesystem::perms(0711));
  }
  void TearDown() override {
    for (const char* file : {"server.pid", "cluster/postmaster.pid"}) {
      if (std::filesystem::exists(host_.file(file)))
        try_command("kill -QUIT $(head -n 1 " + host_.file(file).string() + ")");
    }
  }

  // A key in the token and its reference.
  void create(const std::string& name, const std::string& purpose, const std::string& algorithm) {
    host_.json("key create " + name + " --purpose " + purpose + " --algorithm " + algorithm);
    EXPECT_EQ(host_.keyagent("key reference " + name + " -o " + name + ".key").status, 0);
  }
  // An auth key with a certificate for `common_name` by an authority in software.
  void certified(const std::string& name, const std::string& algorithm,
                 const std::string& common_name) {
    create(name, "auth", algorithm);
    if (!std::filesystem::exists(host_.file("ca.pem")))
      host_.shell(
          "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key "
          "-out ca.pem -subj /CN=authority -days 30 2>&1");
    EXPECT_EQ(host_
                  .keyagent("key csr " + name + " --subject /CN=" + common_name +
                            " --san DNS:localhost -o " + name + ".csr")
                  .status,
              0);
    host_.shell("openssl x509 -req -in " + name + ".csr -CA ca.pem -CAkey ca.key -CAcreateserial " +
                "-copy_extensions copy -days 10 -out " + name + ".pem 2>&1");
  }
};

// --- openssl s_server and s_client
// -------------------------------------------------------------------------------------------------

class ServerAndClient : public TlsPrograms {
 protected:
  void serve(const std::string& key) {
    port_ = std::to_string(free_port());
    run("openssl s_server -accept 127.0.0.1:" + port_ + " -cert " + key +
        ".pem -key keyagent:" + key +
        " -CAfile ca.pem -Verify 1 -verify_return_error -rev >server.log 2>&1 & echo $! "
        ">server.pid");
    ASSERT_TRUE(wait_until([&] {
      return host_.read("server.log").find("ACCEPT") != std::string::npos;
    })) << host_.read("server.log");
  }
  void end() {
    run("kill $(cat server.pid)");
    std::filesystem::remove(host_.file("server.pid"));
  }
  // What the server sends back, reversed. It has asked for the client's certificate.
  CommandResult talk(const std::string& options) const {
    return with_provider(
        "printf 'ping\\nCLOSE\\n' | timeout 30 openssl s_client -connect 127.0.0.1:" + port_ +
        " -servername localhost -verify_hostname localhost -CAfile ca.pem "
        "-verify_return_error -quiet " +
        options);
  }
  std::string port_;
};

TEST_F(ServerAndClient, T12_ProveTheirKeysInBothVersionsOfTls) {
  certified("ec", "ec-p256", "localhost");
  certified("ec384", "ec-p384", "localhost");
  certified("rsa", "rsa-2048", "localhost");
  host_.shell(
      "openssl ecparam -name prime256v1 -genkey -noout -out stranger.key; openssl req -x509 "
      "-new -key stranger.key -subj /CN=stranger -out stranger.pem");
  for (const std::string server : {"ec", "ec384", "rsa"}) {
    serve(server);
    for (const std::string version : {"-tls1_2", "-tls1_3"}) {
      for (const std::string client : {"ec", "ec384", "rsa"}) {
        const auto said = talk(version + " -cert " + client + ".pem -key keyagent:" + client);
        EXPECT_THAT(said.output, HasSubstr("gnip")) << server << version << " " << client;
      }
      EXPECT_THAT(talk(version + " -cert rsa.pem -key rsa.key").output, HasSubstr("gnip"));
      EXPECT_THAT(talk(version).output, Not(HasSubstr("gnip"))) << "no key, no answer";
      EXPECT_THAT(talk(version + " -cert stranger.pem -key stranger.key").output,
                  Not(HasSubstr("gnip")));
    }
    end();
  }
  ASSERT_EQ(host_.stop(), 0);
  EXPECT_THAT(host_.audit(), HasSubstr("TLS 1.3 handshake"));
  EXPECT_THAT(host_.audit(), HasSubstr("TLS 1.2 key exchange"));
  EXPECT_THAT(host_.audit(), HasSubstr("TLS 1.2 handshake"));
}

// --- openssl ca
// -------------------------------------------------------------------------------------------------

TEST_F(TlsPrograms, T12_OpensslCaIssuesAndRevokesWithASignKey) {
  create("authority", "sign", "ec-p256");
  host_.write(
      "ca.cnf",
      read_text(host_.file("openssl.cnf")) +
          "[ca]\ndefault_ca = here\n[here]\ndir = .\ndatabase = index.txt\nserial = serial\n"
          "crlnumber = crlnumber\nnew_certs_dir = .\ncertificate = ca.pem\n"
          "default_md = sha256\ndefault_days = 10\ndefault_crl_days = 5\npolicy = any\n"
          "[any]\ncommonName = supplied\n");
  host_.shell("touch index.txt; echo 01 > serial; echo 01 > crlnumber");
  run("openssl req -x509 -new -key keyagent:authority -subj /CN=authority -days 30 -addext "
      "basicConstraints=critical,CA:TRUE -out ca.pem");
  host_.shell(
      "openssl req -newkey rsa:2048 -nodes -keyout other.key -subj /CN=other -out other.csr "
      "2>&1");
  const std::string ca = "openssl ca -config ca.cnf -batch -keyfile keyagent:authority ";
  run(ca + "-notext -in other.csr -out other.pem");
  host_.shell("openssl verify -CAfile ca.pem other.pem");
  run(ca + "-revoke other.pem");
  run(ca + "-gencrl -out crl.pem");
  host_.shell("openssl crl -in crl.pem -CAfile ca.pem -noout 2>&1");
  EXPECT_NE(try_command("cd " + host_.work.path().string() +
                        " && openssl verify -crl_check -CRLfile crl.pem -CAfile ca.pem other.pem "
                        "2>&1")
                .status,
            0);
  // A key for handshakes issues nothing.
  create("web", "auth", "ec-p256");
  EXPECT_NE(with_provider("openssl ca -config ca.cnf -batch -keyfile keyagent:web -gencrl").status,
            0);
}

// --- PostgreSQL
// -------------------------------------------------------------------------------------------------

class Postgres : public TlsPrograms {
 protected:
  void SetUp() override {
    programs_ = try_command("ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1").output;
    programs_ = programs_.substr(0, programs_.find('\n'));
    if (programs_.empty() || !program_there("psql"))
      GTEST_SKIP() << "PostgreSQL is not installed (postgresql)";
    TlsPrograms::SetUp();
  }
  // A line that root runs as the server's account.
  std::string as_account(const std::string& line) const {
    if (::geteuid() != 0) return line;
    return "setpriv --reuid " + account() + " --regid " + account_group() + " --init-groups " +
           line;
  }
  static std::string account_group() {
    return ::getgrgid(::getpwnam(account().c_str())->pw_gid)->gr_name;
  }
  // Its own cluster whose users prove themselves with certificates.
  void start() {
    port_ = std::to_string(free_port());
    run("mkdir cluster sockets && install -m 0600 server.key cluster.key && chown " + account() +
        " cluster sockets cluster.key");
    run(as_account(programs_ + "/initdb -D cluster -U client -A reject --no-sync >initdb.log"));
    host_.write("pg_hba.conf", "hostssl all all 127.0.0.1/32 cert\n");
    const std::string here = host_.work.path().string();
    for (const char* file : {"ca.pem", "server.pem", "pg_hba.conf", "openssl.cnf"})
      std::filesystem::permissions(host_.file(file), std::filesystem::perms(0644));
    run(as_account(programs_ + "/postgres -D cluster -c ssl=on -c ssl_key_file=" + here +
                   "/cluster.key -c ssl_cert_file=" + here + "/server.pem -c ssl_ca_file=" + here +
                   "/ca.pem -c hba_file=" + here +
                   "/pg_hba.conf -c listen_addresses=127.0.0.1 -c "
                   "fsync=off -c unix_socket_directories=" +
                   here + "/sockets -p " + port_) +
        " >postgres.log 2>&1 & true");
    ASSERT_TRUE(wait_until([&] {
      return host_.read("postgres.log").find("ready to accept") != std::string::npos;
    })) << host_.read("postgres.log");
  }
  CommandResult query(const std::string& how) const {
    return with_provider(
        "timeout 30 psql -X -A -t -c 'select version from pg_stat_ssl where pid = "
        "pg_backend_pid()' 'dbname=postgres user=client host=localhost hostaddr=127.0.0.1 port=" +
        port_ + " sslmode=verify-full sslrootcert=ca.pem " + how + "'");
  }
  std::string programs_, port_;
};

TEST_F(Postgres, T12_ServerAndPsqlProveKeysOfTheToken) {
  certified("server", "ec-p256", "localhost");
  certified("client", "rsa-2048", "client");
  certified("stranger", "ec-p256", "stranger");
  start();
  const std::string client = "sslcert=client.pem sslkey=client.key ";
  EXPECT_EQ(query(client).output, "TLSv1.3\n") << host_.read("postgres.log");
  EXPECT_EQ(query(client + "ssl_max_protocol_version=TLSv1.2").output, "TLSv1.2\n");
  EXPECT_NE(query("").status, 0) << "no key";
  EXPECT_NE(query("sslcert=stranger.pem sslkey=stranger.key").status, 0) << "another's key";
  EXPECT_NE(query("sslcert=client.pem sslkey=stranger.key").status, 0);
  // Both ends continue with an agent that was restarted: nothing of it is kept in the server.
  ASSERT_EQ(host_.stop(), 0);
  host_.start();
  ASSERT_TRUE(host_.serving()) << host_.story();
  EXPECT_EQ(query(client).output, "TLSv1.3\n") << host_.read("postgres.log");
  ASSERT_EQ(host_.stop(), 0);
  EXPECT_THAT(host_.audit(),
              HasSubstr("uid " + std::to_string(::getpwnam(account().c_str())->pw_uid)));
}

}  // namespace
}  // namespace keyagent::test
