// SPDX-License-Identifier: Apache-2.0
#pragma once
// A distinguished name as people write it. Internal to this room.

#include <openssl/x509.h>

#include <string>

namespace keyagent::pki {

// "/C=DE/O=Example/CN=www.example.org"; '+' joins two fields into one name, as openssl -subj has it
// ("/UID=1+CN=Jo Doe"). '/', '+' and '\' in a value are written "\/", "\+", "\\". "" and "/" are
// the empty subject. Throws Error{kUsage} that says what is wrong: controls and what is not UTF-8
// too.
void add_subject(X509_NAME* name, const std::string& subject);

}  // namespace keyagent::pki
