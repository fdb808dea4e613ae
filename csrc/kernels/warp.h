// The affine warp, row by row.
#pragma once

#include "kernels.h"
#include "rows.h"

namespace melfast {

struct Size {
  ptrdiff_t height, width;
};

// Where row y of a warp from one size to another samples its source, in pixels.
WarpRow warp_row_at(const Affine& affine, const Size& from, const Size& to, ptrdiff_t y);

}  // namespace melfast
