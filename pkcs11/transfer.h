// SPDX-License-Identifier: Apache-2.0
#pragma once
// A secret key on its way from token to token, never in the clear outside of one: the layout of
// CKM_RSA_AES_KEY_WRAP (PKCS#11 current mechanisms §2.1, "RSA AES KEY WRAP"), that is a one-time
// AES-256 key under the recipient's RSA key (RSAES-OAEP), then the key under the one-time key
// (AES-KWP, RFC 5649). By that mechanism where the profile has it, else composed of the two.

#include <string>

#include "pkcs11/key.h"

namespace keyagent::pkcs11 {

// What of it a token of this profile lacks ("CKM_AES_KEY_GEN, CKM_AES_KEY_WRAP_KWP"); empty:
// nothing. `oaep`: kSha1 or kSha256, for the hash and for MGF1.
std::string missing_for_transfer(const Profile& profile, Hash oaep);

// Wraps the secret key `target`, which was created extractable, for the RSA public key `spki`
// (DER). The one-time key is generated in the token, may only wrap, and is destroyed with the
// recipient's public key object before this returns. Throws Error{kUnsupported}, Error{kOutput} for
// a result of an unexpected size.
Bytes wrap_for(Session& session, ByteView spki, Hash oaep, const KeyId& target);

// How a transferred key is stored: a token object of `spec`, or a session object for a temporary
// check.
enum class Persistence { kToken, kSession };

// The format of `wrapped`: with a one-time key, or the key itself under RSAES-OAEP, for keys
// imported by users.
enum class Layout { kOneTimeKey, kOaepAlone };

// The inverse, under the RSA private key `unwrapping` of kind `pair`, with a forced template:
// `spec`'s usage, SENSITIVE, not EXTRACTABLE. Returns the handle, valid in this session. Anything
// but an AES-256 key wrapped by an AES-256 key is Error{kRv} of class kInput or kAmbiguous, and
// leaves no object behind.
CK_OBJECT_HANDLE unwrap_from(Session& session, const KeyId& unwrapping, KeyKind pair, Hash oaep,
                             ByteView wrapped, const KeySpec& spec, Persistence stay,
                             Layout layout = Layout::kOneTimeKey);

// Is what `wrapped` holds the AES key `known`, which the token has? Asks by one encryption and one
// decryption; throws as unwrap_from() does.
bool holds_same(Session& session, const KeyId& unwrapping, KeyKind pair, Hash oaep,
                ByteView wrapped, const Bytes& known);

}  // namespace keyagent::pkcs11
