// The affine warp, row by row.
#pragma once

#include "kernels.h"
#include "rows.h"

namespace melfast {

// Where row y of a height x width warp samples its source, both in pixels.
WarpRow warp_row_at(const Affine& affine, ptrdiff_t height, ptrdiff_t width, ptrdiff_t y);

}  // namespace melfast
