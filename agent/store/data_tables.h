// SPDX-License-Identifier: Apache-2.0
#pragma once
// The tables that a copy of an instance has too (clone.cpp). Internal to the room.

#include "agent/store/engine/table.h"
#include "agent/store/rows.h"

namespace keyagent::store {

inline constexpr Column<Specification> kSpecificationColumns[] = {
    column<&Specification::name>("name").key(),
    column<&Specification::access>("access"),
    column<&Specification::created_by>("created_by").fixed(),
    column<&Specification::changed_by>("changed_by"),
    column<&Specification::created>("created").fixed(),
    column<&Specification::changed>("changed"),
    column<&Specification::revision>("revision").fixed(),
};
inline constexpr Table<Specification> kSpecifications{"specifications", kSpecificationColumns};

inline constexpr Column<DataKey> kDataKeyColumns[] = {
    column<&DataKey::kid>("kid").key(),
    column<&DataKey::specification>("specification").fixed(),
    column<&DataKey::source>("source").fixed(),
    column<&DataKey::noted>("noted").fixed(),
    column<&DataKey::closed>("closed"),
};
inline constexpr Table<DataKey> kDataKeys{"data_keys", kDataKeyColumns};

inline constexpr Column<Record> kRecordColumns[] = {
    column<&Record::specification>("specification").key(),
    column<&Record::id>("id").key(),
    column<&Record::kid>("kid"),
    column<&Record::version>("version").fixed(),
    column<&Record::envelope>("envelope"),
    column<&Record::changed_by>("changed_by"),
    column<&Record::changed>("changed"),
};
inline constexpr Table<Record> kRecords{"records", kRecordColumns};

inline constexpr Column<Credential> kCredentialColumns[] = {
    column<&Credential::name>("name").key(),         column<&Credential::type>("type"),
    column<&Credential::version>("version").fixed(), column<&Credential::blind>("blind"),
    column<&Credential::envelope>("envelope"),       column<&Credential::agents>("agent_names"),
    column<&Credential::groups>("group_names"),      column<&Credential::changed_by>("changed_by"),
    column<&Credential::changed>("changed"),         column<&Credential::removed>("removed"),
};
inline constexpr Table<Credential> kCredentials{"credentials", kCredentialColumns};

inline constexpr Column<User> kUserColumns[] = {
    column<&User::name>("name").key(),   column<&User::role>("role"),
    column<&User::password>("password"), column<&User::spki_sha256>("spki_sha256"),
    column<&User::disabled>("disabled"),
};
inline constexpr Table<User> kUsers{"users", kUserColumns};

}  // namespace keyagent::store
