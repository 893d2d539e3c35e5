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

// A folder that cannot be read does not stop the others.
void add_folder(const fs::path& top, FoundFiles& out) {
  for (std::vector<fs::path> folders{top}; !folders.empty();) {
    const auto folder = folders.back();
    folders.pop_back();
    std::error_code error;
    for (fs::directory_iterator at(folder, error); !error && at != fs::directory_iterator();
         at.increment(error)) {
      std::error_code gone;
      const auto status = at->symlink_status(gone);
      if (fs::is_directory(status)) folders.push_back(at->path());
      if (fs::is_regular_file(status)) out.files.push_back(at->path());
    }
    if (error) out.unreadable.push_back({folder.string(), error.message()});
  }
}

// False: it is neither a file nor a folder.
bool add_path(const fs::path& path, FoundFiles& out) {
  std::error_code error;
  const auto status = fs::symlink_status(path, error);
  if (fs::is_directory(status)) return add_folder(path, out), true;
  if (fs::is_regular_file(status)) out.files.push_back(path);
  return fs::is_regular_file(status);
}

constexpr const char* kNeither = "is neither a file nor a folder";

void add_list(const std::string& list, FoundFiles& out) {
  const auto bytes = read_input(list, kLongestList);
  for (std::string_view rest = as_text(bytes); !rest.empty();) {
    const auto end = std::min(rest.find('\n'), rest.size());
    const std::string path(rest.substr(0, end));
    if (!path.empty() && !add_path(path, out)) out.unreadable.push_back({path, kNeither});
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
}

}  // namespace

FoundFiles files_under(const std::vector<std::string>& paths, const std::string& list) {
  FoundFiles out;
  for (const auto& path : paths) {
    if (!add_path(path, out))
      throw Error(Code::kUsage, "'" + escape_controls(path) + "' " + kNeither);
  }
  if (!list.empty()) add_list(list, out);
  std::sort(out.files.begin(), out.files.end());
  out.files.erase(std::unique(out.files.begin(), out.files.end()), out.files.end());
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

std::optional<SealedFile> Recipients::read(const fs::path& path,
                                           std::vector<UnreadableFile>& unreadable) const {
  try {
    return read(path);
  } catch (const std::exception& error) {
    unreadable.push_back({path.string(), error.what()});
    return std::nullopt;
  }
}

}  // namespace keyagent::cli
