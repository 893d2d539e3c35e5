// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/commands/sealed_files.h"

#include <algorithm>

#include "agent/base/disk.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/cli/files.h"
#include "agent/envelope/envelope.h"

namespace keyagent::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLongestList = 64 << 20;

void add_folder(const fs::path& folder, std::vector<fs::path>& out) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && !entry.is_symlink()) out.push_back(entry.path());
  }
}

void add_path(const fs::path& path, std::vector<fs::path>& out) {
  std::error_code error;
  const auto status = fs::symlink_status(path, error);
  if (fs::is_directory(status)) return add_folder(path, out);
  if (!fs::is_regular_file(status)) {
    throw Error(Code::kUsage,
                "'" + escape_controls(path.string()) + "' is neither a file nor a folder");
  }
  out.push_back(path);
}

}  // namespace

std::vector<fs::path> files_under(const std::vector<std::string>& paths, const std::string& list) {
  std::vector<fs::path> out;
  try {
    for (const auto& path : paths) add_path(path, out);
    if (!list.empty()) {
      const auto bytes = read_input(list, kLongestList);
      std::string_view rest = as_text(bytes);
      while (!rest.empty()) {
        const auto end = std::min(rest.find('\n'), rest.size());
        if (end > 0) add_path(std::string(rest.substr(0, end)), out);
        rest.remove_prefix(std::min(end + 1, rest.size()));
      }
    }
  } catch (const fs::filesystem_error& error) {
    throw Error(Code::kUsage, escape_controls(error.what()));
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

Recipients::Recipients(Session& session) {
  wire::Request request;
  request.mutable_key_list()->set_all(true);
  const auto response = session.call(request);
  for (const auto& key : response.key_list().keys()) {
    keys_[key.kid()] = key;
    if (key.spki().empty()) continue;
    for (const auto& id : envelope::key_identifiers(as_bytes(key.spki())))
      by_recipient_id_[id] = key.kid();
  }
}

const wire::Key* Recipients::key(const std::string& kid) const {
  const auto found = keys_.find(kid);
  return found == keys_.end() ? nullptr : &found->second;
}

const wire::Key* Recipients::active(const std::string& name) const {
  for (const auto& [kid, key] : keys_) {
    if (key.name() == name && key.state() == "active") return &key;
  }
  return nullptr;
}

std::string Recipients::kid_of(const envelope::Header& header) const {
  if (!header.kid.empty()) return keys_.contains(header.kid) ? header.kid : std::string();
  for (const auto& id : header.recipient_ids) {
    if (const auto found = by_recipient_id_.find(id); found != by_recipient_id_.end())
      return found->second;
  }
  return {};
}

std::optional<SealedFile> Recipients::read(const fs::path& path) const {
  if (fs::file_size(path) > envelope::kMaxEnvelope) return std::nullopt;
  SealedFile file{path, read_file(path, envelope::kMaxEnvelope), false, {}};
  try {
    const auto header = envelope::inspect(file.envelope);
    file.line = header.format == envelope::Format::kJwe && file.envelope.back() == '\n';
    file.kid = kid_of(header);
  } catch (const Error& error) {
    // Not an envelope, or of an unsupported kind, which is not from keyagent either.
    if (error.code() == Code::kInput || error.code() == Code::kUnsupported) return std::nullopt;
    throw;
  }
  return file;
}

}  // namespace keyagent::cli
