// Seeded bugs: each place that a test must guard can be broken on purpose, and test/native/mutation.mjs demands that
// the suite notices. Everywhere else mutant() is constant false and costs nothing; the target
// mutant_tests has all of them and picks one at run time from QUERN_MUTANT.
#pragma once

#if defined(QUERN_MUTANTS)
#include <cstdlib>
#endif

namespace quern {

#if defined(QUERN_MUTANTS)
inline bool mutant(int k) {
  static const int chosen = [] {
    const char* text = std::getenv("QUERN_MUTANT");
    return text == nullptr ? 0 : std::atoi(text);
  }();
  return chosen == k;
}
#else
constexpr bool mutant(int) { return false; }
#endif

}  // namespace quern
