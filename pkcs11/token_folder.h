// SPDX-License-Identifier: Apache-2.0
#pragma once
// The folder of a token that lives in files, and the room on its disk.

#include <filesystem>

#include "pkcs11/profile.h"

namespace keyagent::pkcs11 {

// Less free space than this counts as a full disk. An object of SoftHSM's takes 1 to 5 KiB.
inline constexpr std::uintmax_t kMinTokenRoom = 256 * 1024;

// The profile's `token-folder`, else directories.tokendir of the file that its environment names as
// SOFTHSM2_CONF. Empty: the token is no folder, or no one says which.
std::filesystem::path token_folder(const Profile& profile,
                                   const std::filesystem::path& state_folder);

// SoftHSM truncates the token's own file at each C_Login and writes it again: on a full disk the
// token is lost, and C_Login answers CKR_OK (RELIABILITY, X1 and X2). So it is not called there.
// Throws Error{kFull} that names the folder and what is left, before `what` begins. A folder that
// does not exist has room: the module reports what is wrong.
void require_token_room(const Profile& profile, const std::filesystem::path& state_folder,
                        const char* what);
// Throws Error{kFull}: the folder is on a read-only file system (RELIABILITY 81), and a write that
// the token began could not be ended.
void require_token_writable(const Profile& profile, const std::filesystem::path& state_folder);

}  // namespace keyagent::pkcs11
