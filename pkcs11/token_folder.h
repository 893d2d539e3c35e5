// SPDX-License-Identifier: Apache-2.0
#pragma once
// The folder of a token that lives in files, and the room on its disk.

#include <filesystem>

#include "pkcs11/profile.h"

namespace keyagent::pkcs11 {

// Less free space than this counts as a full disk. An object of SoftHSM's takes 1 to 5 KiB.
inline constexpr std::uintmax_t kMinTokenRoom = 256 * 1024;

// The profile's `token-folder`, else directories.tokendir of the file that its environment names as
// SOFTHSM2_CONF. Empty: the token is not stored in a folder, or the folder is not configured.
std::filesystem::path token_folder(const Profile& profile,
                                   const std::filesystem::path& state_folder);

// SoftHSM truncates the token's file at each C_Login and writes it again: on a full disk the token
// is lost, and C_Login answers CKR_OK (RELIABILITY, X1 and X2). So C_Login is not called then.
// Throws Error{kFull} with the folder and the free space, before `what` begins. A missing folder
// passes: the module reports that error.
void require_token_room(const Profile& profile, const std::filesystem::path& state_folder,
                        const char* what);
// Throws Error{kFull}: the folder is on a read-only file system (RELIABILITY 81), and a write that
// the token began could not be ended.
void require_token_writable(const Profile& profile, const std::filesystem::path& state_folder);

}  // namespace keyagent::pkcs11
