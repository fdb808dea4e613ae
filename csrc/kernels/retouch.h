// Changes to finished pixels, row by row.
#pragma once

#include "kernels.h"

namespace melfast {

void retouch_row(const Retouch& retouch, ptrdiff_t y, ptrdiff_t width, uint8_t* rgb);

// Mixes a pixel, weight / 255, with what the curves make of it.
inline void curve_pixel(const uint8_t* curves, int weight, const uint8_t* from, uint8_t* to) {
  for (ptrdiff_t c = 0; c < 3; ++c) {
    const int level = from[c], curved = curves[256 * c + level];
    to[c] = static_cast<uint8_t>((level * (255 - weight) + curved * weight + 127) / 255);
  }
}

}  // namespace melfast
