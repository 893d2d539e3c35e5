// SPDX-License-Identifier: Apache-2.0
#pragma once
// Re-encryption: brings all records of a specification under its active key, so that an old one can
// go.

#include <string>
#include <thread>

#include "agent/base/mutex.h"
#include "agent/instance/data/specifications.h"

namespace keyagent::instance {

// Thread-safe. A job is in the store: any replica works at it, one at a time, and another one
// resumes at the last checkpoint when that replica is gone. The row's fence, checked in each
// transaction that writes records, selects the replica; the lease only tells when another one may
// take over.
class Reencryption {
 public:
  static constexpr std::chrono::seconds kLease{5};

  Reencryption(DataKeys& keys, store::Store& store, Specifications& specifications,
               Recorder& recorder, const Clock& clock, std::string replica);
  ~Reencryption() { stop(); }

  // After an import of keys, as often as one likes: all records under a key of this instance's own,
  // which is made where there is none. A job that is in progress checks all of them again.
  void follow_import(const std::string& specification, const std::string& by);

  // For people: API.md.
  Json start(const std::string& specification, const Json& request, const std::string& by);
  Json show(const std::string& specification);
  Json list();
  Json pause(const std::string& specification, const std::string& by);
  Json resume(const std::string& specification, const std::string& by);

  // Works on its own thread until stop().
  void run();
  void stop();

 private:
  struct Pass;
  struct Batch;

  void begin(const std::string& specification, std::int64_t rate, const std::string& by,
             const std::string& actor);
  store::Reencryption require(const std::string& specification) const;
  Json move(const std::string& specification, const std::string& from, const std::string& to,
            const std::string& action, const std::string& by);
  Json describe(const store::Reencryption& job);

  void loop();
  void work(store::Reencryption job);
  // False: the job is not this replica's anymore, or everything ends.
  bool one_pass(store::Reencryption& job, Pass& pass);
  bool one_key(store::Reencryption& job, Pass& pass, const std::string& kid);
  Batch make_batch(const std::vector<store::Record>& records);
  bool write(store::Reencryption& job, const Batch& batch);
  void finish(store::Reencryption& job, const Pass& pass);
  // Waits, keeping the job's lease. False: as above.
  bool rest(store::Reencryption& job, SteadyTime::duration time);
  bool stopping();

  DataKeys& keys_;
  store::Store& store_;
  Specifications& specifications_;
  Recorder& recorder_;
  const Clock& clock_;
  const std::string replica_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ GUARDED_BY(mutex_) = false, news_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace keyagent::instance
