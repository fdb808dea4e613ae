// Memory kept between calls, one set per thread: a loader's threads prepare thousands of images
// alike.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "image.h"
#include "rows.h"

namespace melfast {

struct Scratch {
  std::vector<uint8_t> packed;  // an image whose pixels were not adjacent
  std::vector<uint8_t> rgbx;    // what a warp reads
  std::vector<uint8_t> rows;    // a few finished rows of uint8 RGB
  std::vector<float> values;    // a row that becomes half precision
  // Between the two passes of a resize.
  std::vector<const uint8_t*> source_rows;
  std::vector<uint16_t> blended_u16, mixed;
  std::vector<uint16_t> down_u16, down_start, across_u16, across_start;
  std::vector<uint8_t> levels;
  std::vector<float> blended_f32, down_f32, across_f32;
  // Of colours that are clustered.
  std::vector<float> colour_planes, squares;
  std::vector<double> repeats, block_sums;
  std::vector<int32_t> labels;
};

inline Scratch& scratch() {
  thread_local Scratch mine;
  return mine;
}

// Room for `count` elements and the padding behind them.
template <class T>
T* grow(std::vector<T>& buffer, ptrdiff_t count) {
  const auto wanted = static_cast<size_t>(count + kRowPadding);
  if (buffer.size() < wanted) buffer.resize(wanted);
  return buffer.data();
}

// A row of the image with its pixels adjacent.
inline void copy_row(const Image& image, ptrdiff_t y, uint8_t* out) {
  const uint8_t* in = image.row(y);
  if (image.pixel_stride == 3) {
    std::memcpy(out, in, static_cast<size_t>(3 * image.width));
    return;
  }
  for (ptrdiff_t x = 0; x < image.width; ++x)
    std::memcpy(out + 3 * x, in + x * image.pixel_stride, 3);
}

}  // namespace melfast
