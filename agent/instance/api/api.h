// SPDX-License-Identifier: Apache-2.0
#pragma once
// API.md: the requests of both listeners, each with who may make it.

#include <string>

#include "agent/instance/api/guarded_changes.h"
#include "agent/instance/api/usage.h"
#include "agent/instance/common/epoch.h"
#include "agent/instance/common/users.h"
#include "agent/instance/data/credentials.h"
#include "agent/instance/data/records.h"
#include "agent/instance/data/reencryption.h"
#include "agent/instance/exchange/exchanges.h"
#include "agent/instance/fleet/agents.h"
#include "agent/instance/fleet/enrollment.h"
#include "agent/instance/fleet/rekeys.h"
#include "agent/instance/tasks/tasks.h"
#include "agent/tls/server.h"

namespace keyagent::instance {

// What the requests need. All thread-safe.
struct Services {
  const InstanceConfig& config;
  store::Store& store;
  Authority& authority;
  Enrollment& enrollment;
  Agents& agents;
  Credentials& credentials;
  Rekeys& rekeys;
  Tasks& tasks;
  Users& people;
  Epoch& epoch;
  Specifications& specifications;
  Records& records;
  Reencryption& reencryption;
  Links& links;
  Recorder& recorder;
  const Clock& clock;
  Exchanges& exchanges;
  Decisions& decisions;
  GuardedChanges& changes;
  Usage& usage;
};

// `listen.api`
tls::HttpResponse answer_people(const Services& parts, const tls::HttpRequest& request);
// `listen.agents`
tls::HttpResponse answer_agent(const Services& parts, const tls::HttpRequest& request);
std::unique_ptr<tls::LinkHandler> accept_link(const Services& parts,
                                              std::shared_ptr<tls::Link> link,
                                              const tls::HttpRequest& request);

}  // namespace keyagent::instance
