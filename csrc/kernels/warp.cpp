#include "warp.h"

#include "dispatch.h"
#include "scratch.h"

namespace melfast {

WarpRow warp_row_at(const Affine& affine, const Size& from, const Size& to, ptrdiff_t y) {
  const double h_in = static_cast<double>(from.height), w_in = static_cast<double>(from.width);
  const double h = static_cast<double>(to.height), w = static_cast<double>(to.width);
  const double* m = affine.m;
  const double x_first = 1 / w - 1, y_here = (2 * static_cast<double>(y) + 1) / h - 1;
  const double x_in = m[0] * x_first + m[1] * y_here + m[2];
  const double y_in = m[3] * x_first + m[4] * y_here + m[5];
  return {(x_in + 1) * w_in / 2 - 0.5, (y_in + 1) * h_in / 2 - 0.5, m[0] * w_in / w,
          m[3] * h_in / w};
}

void warp_affine(const Image& image, const Affine& affine, const Output& out) {
  const ptrdiff_t height = image.height, width = image.width;
  uint8_t* row = grow(scratch().rows, 3 * width);
  uint8_t* source = grow(scratch().rgbx, 4 * width * height);
  for (ptrdiff_t y = 0; y < height; ++y) {
    copy_row(image, y, row);
    rows().widen_row(row, width, source + y * 4 * width);
  }
  for (ptrdiff_t y = 0; y < height; ++y)
    rows().warp_row(source, height, width, warp_row_at(affine, {height, width}, {height, width}, y),
                    width, out.row(y));
}

}  // namespace melfast
