# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by check-sanitizers and check-fuzz: one build with clang, AddressSanitizer, UBSan and what libFuzzer needs serves both, since
# the rooms' code is most of it.

asan_folder=build-clang-asan

# build_with_asan TARGET...
build_with_asan() {
  local clang
  clang=$(command -v clang++-14 || command -v clang++)
  build "$asan_folder" "-DCMAKE_CXX_COMPILER=$clang" "-DCMAKE_C_COMPILER=${clang/++/}" -DKEYAGENT_FUZZ=ON -DKEYAGENT_TESTS=ON -DKEYAGENT_UNITY=ON \
    -DKEYAGENT_SANITIZE=fuzzer-no-link,address,undefined "-DKEYAGENT_OPTIMISE=-O1 -g1" -- "$@"
}
