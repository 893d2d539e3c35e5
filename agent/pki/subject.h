#pragma once
// A distinguished name as people write it. Internal to this room.

#include <openssl/x509.h>

#include <string>

namespace keyagent::pki {

// "/C=DE/O=Example/CN=www.example.org", a '/' in a value as "\/". Throws Error{kUsage} that says
// what is wrong with it.
void add_subject(X509_NAME* name, const std::string& subject);

}  // namespace keyagent::pki
