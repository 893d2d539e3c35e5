#include "agent/gate/refusals.h"

#include <string>
#include <utility>

#include "agent/base/log.h"

namespace keyagent::gate {

void Refusals::submit(audit::Event event, std::function<void()> answer) {
  std::unique_lock lock(mutex_);
  if (waiting_.size() >= kMost) {
    ++unlisted_;
    lock.unlock();
    return answer();
  }
  waiting_.push_back({std::move(event), std::move(answer)});
  if (writing_) return;
  writing_ = true;
  while (!waiting_.empty()) {
    std::vector<Waiting> batch = std::exchange(waiting_, {});
    if (const std::size_t count = std::exchange(unlisted_, 0); count > 0) {
      audit::Event rest;
      rest.what = "refused";
      rest.outcome = "DENIED";
      rest.detail = std::to_string(count) + " refusals came too fast to be listed";
      batch.insert(batch.begin(), {std::move(rest), [] {}});
    }
    lock.unlock();
    write(batch);
    lock.lock();
  }
  writing_ = false;
}

void Refusals::write(std::vector<Waiting>& batch) {
  try {
    for (std::size_t i = 0; i + 1 < batch.size(); ++i) audit_.record(batch[i].event);
    audit_.record_now(batch.back().event);
  } catch (const std::exception& error) {
    log_error("gate", std::string("a refusal is not in the audit log: ") + error.what());
  }
  for (auto& waiting : batch) waiting.answer();
}

}  // namespace keyagent::gate
