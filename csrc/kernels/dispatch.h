// The instruction set, chosen once.
#pragma once

#include "rows.h"

namespace melfast {

// The best that the machine has, or what MELFAST_ISA names.
// Throws std::runtime_error where that is unknown or the machine lacks it.
const char* isa();

const Rows& rows();

}  // namespace melfast
