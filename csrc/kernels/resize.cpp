#include "resize.h"

#include <algorithm>

#include "dispatch.h"
#include "filter.h"
#include "kernels.h"
#include "scratch.h"

namespace melfast {
namespace {

using RowAt = std::function<uint8_t*(ptrdiff_t)>;
using Done = std::function<void(ptrdiff_t)>;

// The taps of one output row, without those that weigh nothing at either end.
template <class Weight>
struct Column {
  const Weight* weight;
  ptrdiff_t count;
  const uint8_t** rows;

  Column(const Image& image, const Taps<Weight>& taps, ptrdiff_t y)
      : weight(taps.weight + y * taps.count),
        count(taps.count),
        rows(grow(scratch().source_rows, taps.count)) {
    ptrdiff_t first = taps.first[y];
    for (; count > 1 && weight[0] == 0; ++weight, ++first) --count;
    while (count > 1 && weight[count - 1] == 0) --count;
    for (ptrdiff_t k = 0; k < count; ++k) rows[k] = image.row(first + k);
  }
};

void resize_u16(const Image& image, const Filter& vertical, const Filter& horizontal,
                const RowAt& row_at, const Done& done) {
  Scratch& s = scratch();
  const TapsU16 down = vertical.taps_u16(1, s.down_u16, s.down_start);
  const TapsU16 across = horizontal.taps_u16(256, s.across_u16, s.across_start);
  const ptrdiff_t n = 3 * image.width, stride = n + kRowPadding;
  uint16_t* blended = grow(s.blended_u16, kRowsAtOnce * stride);
  uint16_t* mixed = grow(s.mixed, kRowsAtOnce * n);
  uint8_t* levels = grow(s.levels, kRowsAtOnce * 3 * across.size);
  for (ptrdiff_t y = 0; y < down.size; y += kRowsAtOnce) {
    const ptrdiff_t count = std::min(kRowsAtOnce, down.size - y);
    const uint16_t* in[kRowsAtOnce];
    uint8_t* out[kRowsAtOnce];
    for (ptrdiff_t r = 0; r < count; ++r) {
      const Column<uint16_t> column(image, down, y + r);
      in[r] = blended + r * stride;
      out[r] = row_at(y + r);
      rows().blend_u16(column.rows, column.weight, column.count, down.start[y + r], n,
                       blended + r * stride);
    }
    for (ptrdiff_t r = count; r < kRowsAtOnce; ++r) in[r] = in[count - 1], out[r] = out[count - 1];
    rows().resample_u16(in, n, across, mixed, levels, out);
    for (ptrdiff_t r = 0; r < count; ++r) done(y + r);
  }
}

void resize_f32(const Image& image, const Filter& vertical, const Filter& horizontal,
                const RowAt& row_at, const Done& done) {
  Scratch& s = scratch();
  const Taps<float> down = vertical.taps_f32(s.down_f32);
  const Taps<float> across = horizontal.taps_f32(s.across_f32);
  float* blended = grow(s.blended_f32, 3 * image.width);
  for (ptrdiff_t y = 0; y < down.size; ++y) {
    const Column<float> column(image, down, y);
    rows().blend_f32(column.rows, column.weight, column.count, 3 * image.width, blended);
    rows().resample_f32(blended, across, row_at(y));
    done(y);
  }
}

Image with_adjacent_pixels(const Image& image) {
  if (image.pixel_stride == 3) return image;
  uint8_t* packed = grow(scratch().packed, 3 * image.width * image.height);
  for (ptrdiff_t y = 0; y < image.height; ++y) copy_row(image, y, packed + y * 3 * image.width);
  return {packed, image.height, image.width, 3 * image.width, 3};
}

}  // namespace

void resize_rows(const Image& image, const Extent& extent, ptrdiff_t height, ptrdiff_t width,
                 const RowAt& row_at, const Done& done) {
  const bool all = extent == whole(image);
  if (all && image.height == height && image.width == width) {
    for (ptrdiff_t y = 0; y < height; ++y) {
      copy_row(image, y, row_at(y));
      done(y);
    }
    return;
  }
  const Image source = with_adjacent_pixels(image);
  const Filter vertical(image.height, extent.top, extent.bottom, height);
  const Filter horizontal(image.width, extent.left, extent.right, width);
  const bool few_taps = std::max(vertical.count(), horizontal.count()) <= kMostTapsU16;
  (few_taps ? resize_u16 : resize_f32)(source, vertical, horizontal, row_at, done);
}

void resize(const Image& image, const Extent& extent, const Output& out) {
  resize_rows(
      image, extent, out.height, out.width, [&](ptrdiff_t y) { return out.row(y); },
      [](ptrdiff_t) {});
}

}  // namespace melfast
