#pragma once
// API.md: the requests of both listeners, each with who may make it.

#include <string>

#include "agent/instance/agents.h"
#include "agent/instance/credentials.h"
#include "agent/instance/enrolment.h"
#include "agent/instance/epoch.h"
#include "agent/instance/exchanges.h"
#include "agent/instance/guarded_changes.h"
#include "agent/instance/people.h"
#include "agent/instance/records.h"
#include "agent/instance/reencryption.h"
#include "agent/instance/rekeys.h"
#include "agent/instance/tasks.h"
#include "agent/instance/usage.h"
#include "agent/tls/server.h"

namespace keyagent::instance {

// What the requests need. All thread-safe.
struct Parts {
  const InstanceConfig& config;
  store::Store& store;
  Authority& authority;
  Enrolment& enrolment;
  Agents& agents;
  Credentials& credentials;
  Rekeys& rekeys;
  Tasks& tasks;
  People& people;
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
tls::HttpResponse answer_people(const Parts& parts, const tls::HttpRequest& request);
// `listen.agents`
tls::HttpResponse answer_agent(const Parts& parts, const tls::HttpRequest& request);
std::unique_ptr<tls::LinkHandler> accept_link(const Parts& parts, std::shared_ptr<tls::Link> link,
                                              const tls::HttpRequest& request);

}  // namespace keyagent::instance
