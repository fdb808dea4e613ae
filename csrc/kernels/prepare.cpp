#include <algorithm>
#include <cstring>

#include "colour.h"
#include "dispatch.h"
#include "kernels.h"
#include "resize.h"
#include "retouch.h"
#include "scratch.h"
#include "warp.h"

namespace melfast {
namespace {

// Replaces the outermost pixels of an RGBx image by those next to them. A warp that reaches
// beyond the edge repeats them, and they often do not belong to the picture: a drawn frame of one
// pixel, or padding of the encoder.
void trim(uint8_t* rgbx, ptrdiff_t height, ptrdiff_t width) {
  if (width >= 3) {
    for (ptrdiff_t y = 0; y < height; ++y) {
      uint8_t* row = rgbx + y * 4 * width;
      memcpy(row, row + 4, 4);
      memcpy(row + 4 * (width - 1), row + 4 * (width - 2), 4);
    }
  }
  if (height >= 3) {
    uint8_t* last = rgbx + (height - 1) * 4 * width;
    memcpy(rgbx, rgbx + 4 * width, static_cast<size_t>(4 * width));
    memcpy(last, last - 4 * width, static_cast<size_t>(4 * width));
  }
}

}  // namespace

// Rows are normalised as soon as they are computed, while they are in the cache; only a warp needs
// the whole resized image.
void prepare(const Image& image, const Extent& extent, ptrdiff_t working_height,
             ptrdiff_t working_width, const Affine& affine, const Retouch& retouch,
             const Normalization& how, const Output& out) {
  const ptrdiff_t height = out.height, width = out.width;
  const bool plain = out.element == Element::kU8;
  const Normalizer normalizer(how, out.element, width);
  uint8_t* ring = grow(scratch().rows, kRowsAtOnce * 3 * std::max(width, working_width));
  const auto finish = [&](ptrdiff_t y, uint8_t* row) {
    retouch_row(retouch, y, width, row);
    if (!plain) normalizer.row(row, out.row(y));
  };
  if (affine.is_identity() && working_height == height && working_width == width) {
    const auto row_at = [&](ptrdiff_t y) {
      return plain ? out.row(y) : ring + y % kRowsAtOnce * 3 * width;
    };
    return resize_rows(image, extent, height, width, row_at,
                       [&](ptrdiff_t y) { finish(y, row_at(y)); });
  }

  const auto place = [&](ptrdiff_t y) { return ring + y % kRowsAtOnce * 3 * working_width; };
  uint8_t* resized = grow(scratch().rgbx, 4 * working_width * working_height);
  resize_rows(image, extent, working_height, working_width, place, [&](ptrdiff_t y) {
    rows().widen_row(place(y), working_width, resized + y * 4 * working_width);
  });
  if (affine.reaches_out()) trim(resized, working_height, working_width);
  const Size from = {working_height, working_width}, to = {height, width};
  for (ptrdiff_t y = 0; y < height; ++y) {
    uint8_t* row = plain ? out.row(y) : ring;
    rows().warp_row(resized, working_height, working_width, warp_row_at(affine, from, to, y), width,
                    row);
    finish(y, row);
  }
}

}  // namespace melfast
