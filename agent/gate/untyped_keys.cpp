#include "agent/gate/untyped_keys.h"

#include <string>

namespace keyagent::gate {
namespace {

std::string note_of(const Kid& kid) {
  return "vouches/" + kid.text();
}

}  // namespace

void UntypedKeys::note(keys::KeyStore& keys, const keys::KeyRecord& key, Purpose used_for) {
  {
    const std::lock_guard lock(mutex_);
    if (!noted_.insert(key.kid).second) return;
  }
  keys.note(note_of(key.kid), std::string(name_of(used_for)));
}

std::optional<Purpose> UntypedKeys::used_for(const keys::KeyStore& keys, const Kid& kid) {
  const auto noted = purpose_of(keys.noted(note_of(kid)));
  return noted && vouches(*noted) ? noted : std::nullopt;
}

}  // namespace keyagent::gate
