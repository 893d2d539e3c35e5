// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parses a distinguished name in text form. Internal to this room.

#include <openssl/x509.h>

#include <string>

namespace keyagent::pki {

// "/C=DE/O=Example/CN=www.example.org"; '+' joins two fields into one name, as in openssl -subj
// ("/UID=1+CN=Jo Doe"). '/', '+' and '\' in a value are written "\/", "\+", "\\". "" and "/" are
// the empty subject. Throws Error{kUsage} with the reason, also for control characters and for text
// that is not UTF-8.
void add_subject(X509_NAME* name, const std::string& subject);

}  // namespace keyagent::pki
