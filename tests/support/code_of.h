// SPDX-License-Identifier: Apache-2.0
#pragma once
// The code of the Error that some work throws.

#include "agent/base/error.h"

namespace keyagent {

// kOk when it throws none.
template <class Work>
Code code_of(Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.code();
  }
  return Code::kOk;
}

}  // namespace keyagent
