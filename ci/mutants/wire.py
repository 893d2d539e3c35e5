# SPDX-License-Identifier: Apache-2.0
MUTANTS = [
    ("empty-frames", "agent/wire/frame.cpp", "  if (length == 0) throw Error(", "  if (false) throw Error(", "wire_test", "Frame"),
    ("length-of-a-frame", "agent/wire/frame.cpp", "if (length > limit)", "if (false)", "wire_test", "Frame"),
    ("returned-frames-are-wiped", "agent/wire/frame.cpp", "  OPENSSL_cleanse(&buffer_[pending()], begin_);\n", "", "wire_test", "ReturnedFrames"),
    ("plaintexts-are-wiped", "agent/wire/messages.cpp", "  if (response.has_open()) wipe_text(*response.mutable_open()->mutable_plaintext());\n", "",
     "wire_test", "Wipe"),
    ("secrets-agreed-on-are-wiped", "agent/wire/messages.cpp",
     "  if (response.has_agree()) wipe_text(*response.mutable_agree()->mutable_secret());\n", "", "wire_test", "Wipe"),
    ("credentials-are-wiped", "agent/wire/messages.cpp",
     "  if (response.has_credential_get()) wipe_text(*response.mutable_credential_get()->mutable_value());\n", "", "wire_test", "Wipe"),
    ("tokens-are-wiped", "agent/wire/messages.cpp", "  if (request.has_enroll()) wipe_text(*request.mutable_enroll()->mutable_token());\n", "",
     "wire_test", "Wipe"),
    ("decryptions-are-answered-in-order", "agent/wire/messages.cpp", "    case Request::kAgreeFieldNumber:\n", "", "net_test", "Messages"),
    ("changes-are-not-repeated", "agent/wire/messages.cpp", "    case Request::kKeyDestroy:\n", "", "wire_test", "OnlyWhatChanges"),
]
