// SPDX-License-Identifier: Apache-2.0
#include "agent/tls/http.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <boost/url/parse.hpp>
#include <nlohmann/json.hpp>
#include <optional>

#include "agent/base/encoding.h"
#include "agent/base/strict_json.h"

namespace keyagent::tls {
namespace {

constexpr JsonLimits kErrorLimits{64 << 10, 4};

struct Row {
  Code code;
  int status;
};

constexpr std::array kStatus{
    Row{Code::kOk, 200},
    Row{Code::kUsage, 400},
    Row{Code::kConfiguration, 500},
    Row{Code::kUnsupported, 501},
    Row{Code::kDenied, 403},
    Row{Code::kKeyState, 409},
    Row{Code::kKeyNotPresent, 404},
    Row{Code::kExists, 409},
    Row{Code::kConfirm, 428},
    Row{Code::kTokenFault, 503},
    Row{Code::kTokenAbsent, 503},
    Row{Code::kTokenStuck, 503},
    Row{Code::kTokenFull, 507},
    Row{Code::kKeyLost, 410},
    Row{Code::kPinRefused, 503},
    Row{Code::kPinLocked, 503},
    Row{Code::kBusy, 429},
    Row{Code::kDeadline, 504},
    Row{Code::kPeer, 502},
    Row{Code::kInput, 422},
    Row{Code::kIntegrity, 422},
    Row{Code::kPartial, 500},
    Row{Code::kInternal, 500},
    Row{Code::kPeerUntrusted, 403},
    Row{Code::kPeerExpired, 403},
    Row{Code::kPeerNotYetValid, 403},
    Row{Code::kPeerPurpose, 403},
    Row{Code::kPeerNoCertificate, 401},
    Row{Code::kPeerName, 403},
    Row{Code::kPeerKey, 403},
    Row{Code::kPeerRevoked, 403},
    Row{Code::kRefusedByPeer, 502},
};
static_assert(kStatus.size() == static_cast<std::size_t>(kLastCode) + 1);

constexpr bool table_is_indexed_by_code() {
  for (std::size_t i = 0; i < kStatus.size(); ++i) {
    if (static_cast<std::size_t>(kStatus[i].code) != i) return false;
  }
  return true;
}
static_assert(table_is_indexed_by_code());

std::string lower(boost::beast::string_view text) {
  std::string out(text.data(), text.size());
  std::transform(out.begin(), out.end(), out.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return out;
}

template <class Fields>
std::map<std::string, std::string> headers_of(const Fields& fields) {
  std::map<std::string, std::string> headers;
  for (const auto& field : fields) {
    const std::string value(field.value().data(), field.value().size());
    auto [at, first] = headers.emplace(lower(field.name_string()), value);
    if (!first) at->second += ", " + value;  // RFC 9110 §5.3
  }
  return headers;
}

void take_target(boost::beast::string_view target, HttpRequest& request) {
  const auto url = boost::urls::parse_origin_form({target.data(), target.size()});
  if (!url) throw Error(Code::kUsage, "the target is not a path with a query");
  request.path = url->path();
  const auto params = url->params();
  for (const auto& param : params) {
    if (!request.query.emplace(param.key, param.value).second)
      throw Error(Code::kUsage, "the query names one parameter twice");
  }
  if (escape_controls(request.path) != request.path)
    throw Error(Code::kUsage, "the path contains a control character or is not UTF-8");
}

}  // namespace

HttpRequest from_beast(http::request<http::string_body>&& message, const Peer& peer) {
  HttpRequest request;
  request.method = std::string(message.method_string());
  take_target(message.target(), request);
  request.headers = headers_of(message);
  request.body = std::move(message.body());
  request.peer = peer;
  return request;
}

http::response<http::string_body> to_beast(HttpResponse&& response) {
  http::response<http::string_body> message;
  message.result(static_cast<unsigned>(response.status));
  if (!response.type.empty()) message.set(http::field::content_type, response.type);
  for (const auto& [name, value] : response.headers) message.set(name, value);
  message.body() = std::move(response.body);
  return message;
}

HttpResponse from_beast(http::response<http::string_body>&& message) {
  HttpResponse response;
  response.status = static_cast<int>(message.result_int());
  response.headers = headers_of(message);
  response.type = response.headers["content-type"];
  response.body = std::move(message.body());
  return response;
}

void wipe_read(boost::beast::flat_buffer& buffer) {
  const auto rest = buffer.prepare(buffer.capacity() - buffer.size());
  OPENSSL_cleanse(rest.data(), rest.size());
}

HttpResponse failure(const Error& error) {
  HttpResponse response;
  const auto row = std::min(static_cast<std::size_t>(error.code()), kStatus.size() - 1);
  response.status = kStatus[row].status;
  response.body = "{\"error\":{\"code\":\"" + std::string(code_name(error.code())) + "\",\"text\":";
  append_json_string(response.body, error.what());
  if (!error.kid().empty()) {
    response.body += ",\"kid\":";
    append_json_string(response.body, error.kid());
  }
  response.body += "}}";
  return response;
}

std::optional<Error> error_in(const HttpResponse& response) {
  if (response.status < 400) return std::nullopt;
  const auto json = parse_strict_object(response.body, kErrorLimits);
  const auto error = json ? json->find("error") : nlohmann::json::const_iterator();
  if (!json || error == json->end() || !error->is_object()) return std::nullopt;
  const auto& told = *error;
  const auto text = [&](const char* name) {
    const auto at = told.find(name);
    return at != told.end() && at->is_string() ? escape_controls(at->get<std::string>())
                                               : std::string();
  };
  if (text("code").empty()) return std::nullopt;
  return Error(code_of_name(text("code")), text("text"), text("kid"));
}

}  // namespace keyagent::tls
