#include "colour.h"
#include "dispatch.h"
#include "kernels.h"
#include "resize.h"
#include "scratch.h"
#include "warp.h"

namespace melfast {

// Rows are normalised as soon as they are made, while they are in the cache; only a warp needs the
// whole resized image.
void prepare(const Image& image, const Affine& affine, const Normalization& how,
             const Output& out) {
  const ptrdiff_t height = out.height, width = out.width;
  const bool plain = out.element == Element::kU8;
  const Normalizer normalizer(how, out.element, width);
  uint8_t* ring = grow(scratch().rows, kRowsAtOnce * 3 * width);
  const auto place = [&](ptrdiff_t y) { return ring + y % kRowsAtOnce * 3 * width; };
  const auto row_at = [&](ptrdiff_t y) { return plain ? out.row(y) : place(y); };
  const auto finish = [&](ptrdiff_t y) {
    if (!plain) normalizer.row(place(y), out.row(y));
  };
  if (affine.is_identity()) return resize_rows(image, height, width, row_at, finish);

  uint8_t* resized = grow(scratch().rgbx, 4 * width * height);
  resize_rows(image, height, width, place,
              [&](ptrdiff_t y) { rows().widen_row(place(y), width, resized + y * 4 * width); });
  for (ptrdiff_t y = 0; y < height; ++y) {
    rows().warp_row(resized, height, width, warp_row_at(affine, height, width, y), width,
                    row_at(y));
    finish(y);
  }
}

}  // namespace melfast
