// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which connections each address has: one that floods loses its own.

#include <cstddef>
#include <list>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace keyagent::tls {

// The state of a connection, in the order in which connections are closed for new ones.
enum class Standing {
  kSilent,     // it has sent nothing yet
  kIdle,       // between two requests, without a certificate
  kSlow,       // it has sent a part of a handshake or a request, or reads its answer
  kKnownIdle,  // between two requests, with a certificate
  kWorking,    // never ended: the server has its request, or calculates
};

class Occupant {
 public:
  virtual ~Occupant() = default;
  virtual Standing standing() const = 0;
  // Ends soon; gives up its place at once.
  virtual void make_room(const char* why) = 0;
};

// Used from one thread. Does not own the occupants: call leave() before one is destroyed.
class AddressPlaces {
 public:
  AddressPlaces(std::size_t per_address, std::size_t total)
      : per_address_(per_address), total_(total) {}

  // Makes room for one more connection of this address (principal_of_address()): closes one of its
  // own when it has its share, and one of the address with the most closable ones when all places
  // are taken. False: none can be closed, refuse the new connection.
  bool make_room_for(const std::string& address);
  // Closes a connection of the address with the most closable ones: the process has no place or no
  // descriptor left.
  bool make_room();

  void enter(const std::string& address, Occupant& occupant);
  void leave(const std::string& address, Occupant& occupant);  // again: nothing
  std::size_t size() const { return size_; }
  std::size_t of(const std::string& address) const;

 private:
  using Occupants = std::list<Occupant*>;  // in the order of their coming
  bool end_one(const std::string& address, const char* why);
  void count(const std::string& address, std::size_t before, std::size_t now);

  const std::size_t per_address_, total_;
  std::size_t size_ = 0;
  std::map<std::string, Occupants> addresses_;
  std::set<std::pair<std::size_t, std::string>> by_count_;
};

}  // namespace keyagent::tls
