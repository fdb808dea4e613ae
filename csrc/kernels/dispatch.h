// The instruction set, chosen once.
#pragma once

#include "mask_rows.h"
#include "rows.h"

namespace melfast {

// The best of this machine, or the one that MELFAST_ISA names.
// Throws std::runtime_error if that is unknown or the machine lacks it.
const char* isa();

const Rows& rows();
const MaskRows& mask_rows();

// The builds of a table of inner loops, in the order of instruction_set().
#ifdef MELFAST_X86
#define MELFAST_BUILDS(table) {&baseline::table, &avx2::table, &avx512::table}
#else
#define MELFAST_BUILDS(table) {&baseline::table}
#endif

// 0 is the baseline.
int instruction_set();

}  // namespace melfast
