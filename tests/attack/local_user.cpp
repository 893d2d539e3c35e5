// SPDX-License-Identifier: Apache-2.0
// A user of the host without any policy rule: every operation of the protocol, floods, and
// malformed input.
//   --socket PATH --seconds N [--key NAME]... (sign key, open key, credential)
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <poll.h>
#include <sys/socket.h>

#include <random>
#include <thread>

#include "agent/base/error.h"
#include "agent/client/channel.h"
#include "agent/client/client.h"
#include "agent/wire/messages.h"
#include "tests/attack/attempts.h"

namespace keyagent::attack {
namespace {

using namespace std::chrono_literals;
using wire::Request;
using wire::Response;

struct Target {
  std::string socket, sign_key, open_key, credential;
};

std::string text_for(const std::string& field, const Target& target, bool opens) {
  if (field == "key" || field == "name" || field == "exchange_key" || field == "kid")
    return opens ? target.open_key : target.sign_key;
  if (field == "credential") return target.credential;
  if (field == "purpose") return "sign";
  if (field == "action") return "open";
  return "x";
}

// Fills every text of the operation, so that it names what exists.
void fill(google::protobuf::Message& message, const Target& target, bool opens) {
  const auto* reflection = message.GetReflection();
  const auto* type = message.GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const auto* field = type->field(i);
    if (field->is_repeated()) continue;
    if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_STRING)
      reflection->SetString(&message, field, text_for(field->name(), target, opens));
    if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_BOOL)
      reflection->SetBool(&message, field, true);
  }
}

std::vector<const google::protobuf::FieldDescriptor*> operations() {
  std::vector<const google::protobuf::FieldDescriptor*> out;
  const auto* choice = Request::descriptor()->FindOneofByName("op");
  for (int i = 0; i < choice->field_count(); ++i) out.push_back(choice->field(i));
  return out;
}

Request operation(const google::protobuf::FieldDescriptor* which, const Target& target,
                  bool opens) {
  Request request;
  auto* body = request.GetReflection()->MutableMessage(&request, which);
  fill(*body, target, opens);
  if (request.has_credential_get()) request.mutable_credential_get()->set_name(target.credential);
  if (request.has_sign()) request.mutable_sign()->set_input(std::string(32, 'x'));
  return request;
}

// What anybody may ask: why, and a list of no keys.
bool is_gain(const Response& response) {
  if (response.has_failure() || response.has_why()) return false;
  if (response.has_key_list()) return response.key_list().keys_size() > 0;
  return true;
}

Attack every_operation(const Target& target) {
  return {
      "every operation of the protocol", 2, [target] {
        auto agent = std::make_shared<client::Client>(client::Client::Options{target.socket, 10s});
        auto next = std::make_shared<std::size_t>(0);
        return [agent, next, target, all = operations()](Attempts& count) {
          const auto* which = all[(*next / 2) % all.size()];
          auto request = operation(which, target, *next % 2 == 1);
          ++*next;
          count.attempt([&] {
            const auto response = agent->call(std::move(request));
            if (is_gain(response)) count.gained(which->name());
            return false;
          });
        };
      }};
}

// One operation as fast as the agent answers.
Attack flood(const std::string& name, const Target& target, unsigned threads,
             const std::function<Request()>& request) {
  return {
      name, threads, [target, request] {
        auto agent = std::make_shared<client::Client>(client::Client::Options{target.socket, 10s});
        return [agent, request](Attempts& count) {
          count.attempt([&] { return is_gain(agent->call(request())); });
        };
      }};
}

SecretBytes frame_of(const Request& request) {
  SecretBytes out;
  wire::append_frame(out, wire::serialize(request));
  return out;
}

bool send_all(int fd, ByteView bytes) {
  while (!bytes.empty()) {
    const auto sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

Fd connection(const Target& target) {
  auto fd = client::connect_agent(target.socket, std::chrono::steady_clock::now() + 5s);
  const timeval patience{2, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  return fd;
}

// Hundreds of requests on one connection, whose answers no one reads.
Attack pipeline(const Target& target) {
  return {"pipelined requests, answers unread", 2, [target] {
            return [target](Attempts& count) {
              const auto fd = connection(target);
              for (std::uint64_t i = 1; i <= 512; ++i) {
                Request request;
                request.set_id(i);
                request.mutable_open()->set_envelope(std::string(3000, 'e'));
                if (!send_all(fd.get(), frame_of(request))) break;
                count.refused();
              }
            };
          }};
}

Attack idle_connections(const Target& target) {
  return {"idle connections, as many as there are places", 1, [target] {
            auto held = std::make_shared<std::vector<Fd>>();
            return [held, target](Attempts& count) {
              if (held->size() < 4096) {
                held->push_back(connection(target));
                return;
              }
              count.refused();
              std::this_thread::sleep_for(100ms);
            };
          }};
}

Attack garbage(const Target& target) {
  return {"bytes that are no request", 1, [target] {
            auto random = std::make_shared<std::minstd_rand>(std::random_device{}());
            return [random, target](Attempts& count) {
              const auto fd = connection(target);
              Bytes bytes(1 + (*random)() % 5000);
              for (auto& each : bytes) each = static_cast<std::uint8_t>((*random)());
              if ((*random)() % 2 == 0) bytes[0] = bytes[1] = 0;  // a length that may be true
              send_all(fd.get(), bytes);
              count.refused();
            };
          }};
}

std::vector<Attack> attacks_on(const Target& target) {
  return {every_operation(target),
          flood("refused signatures", target, 4,
                [target] {
                  Request request;
                  request.mutable_sign()->set_key(target.sign_key);
                  request.mutable_sign()->set_input(std::string(32, 'x'));
                  return request;
                }),
          flood("refused credentials", target, 2,
                [target] {
                  Request request;
                  request.mutable_credential_get()->set_name(target.credential);
                  return request;
                }),
          flood("a key's name of 200 KiB with controls", target, 1,
                [] {
                  Request request;
                  request.mutable_sign()->set_key(std::string(200 * 1024, '\n'));
                  request.mutable_sign()->set_input(std::string(32, 'x'));
                  return request;
                }),
          flood("proofs of a key", target, 1,
                [target] {
                  Request request;
                  request.mutable_key_show()->set_key(target.open_key);
                  request.mutable_key_show()->set_prove(true);
                  return request;
                }),
          pipeline(target),
          idle_connections(target),
          garbage(target)};
}

}  // namespace

int local_user(const bench::Arguments& arguments) {
  const Target target{arguments.text("socket"), arguments.text("sign-key"),
                      arguments.text("open-key"), arguments.text("credential")};
  return run_attacks("local user", std::chrono::seconds(arguments.number("seconds", 60)),
                     attacks_on(target));
}

}  // namespace keyagent::attack
