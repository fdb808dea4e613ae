#include "dispatch.h"

#ifdef MELFAST_X86
#include <cpuid.h>
#endif

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace melfast {
namespace {

struct Isa {
  const char* name;
  bool supported;
};

#ifdef MELFAST_X86
// The features that the avx2 build needs. __builtin_cpu_supports also checks whether the operating
// system saves the wide registers; Clang's does not know f16c.
bool has_avx2() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) && __builtin_cpu_supports("avx2") &&
         __builtin_cpu_supports("fma");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

// From the worst to the best.
const Isa* known(size_t* count) {
  static const Isa table[] = {
      {"baseline", true},
#ifdef MELFAST_X86
      {"avx2", has_avx2()},
      {"avx512", has_avx512()},
#endif
  };
  *count = sizeof table / sizeof *table;
  return table;
}

const Isa& choose() {
  size_t count = 0;
  const Isa* table = known(&count);
  const Isa* best = table;
  for (size_t i = 0; i < count; ++i)
    if (table[i].supported) best = &table[i];

  const char* wanted = std::getenv("MELFAST_ISA");
  if (wanted == nullptr || *wanted == '\0') return *best;
  std::string names;
  for (size_t i = 0; i < count; ++i) {
    if (std::string(wanted) != table[i].name) {
      names += (i ? ", " : "") + std::string(table[i].name);
      continue;
    }
    if (table[i].supported) return table[i];
    throw std::runtime_error("MELFAST_ISA is '" + std::string(wanted) +
                             "', but the best this machine has is '" + best->name + "'");
  }
  throw std::runtime_error("MELFAST_ISA must be one of " + names + ", got '" + wanted + "'");
}

const Isa& chosen() {
  static const Isa& isa = choose();
  return isa;
}

}  // namespace

const char* isa() { return chosen().name; }

int instruction_set() {
  size_t count = 0;
  return static_cast<int>(&chosen() - known(&count));
}

const Rows& rows() {
  static const Rows* const builds[] = MELFAST_BUILDS(kRows);
  return *builds[instruction_set()];
}

const MaskRows& mask_rows() {
  static const MaskRows* const builds[] = MELFAST_BUILDS(kMaskRows);
  return *builds[instruction_set()];
}

}  // namespace melfast
