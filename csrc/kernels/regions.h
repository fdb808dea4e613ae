// What each pixel of a dermoscopic picture shows.
#pragma once

#include "image.h"

namespace melfast {

enum Region : uint8_t {
  kLesion = 1,
  kHair = 2,
  kVignette = 4,
  kRuler = 8,
  kGlare = 16,
  kMargin = 32,  // too near to one of these, or too dark, to be trusted as skin
};

// Longer side of the pictures that regions are found in.
inline constexpr ptrdiff_t kWorkingSide = 512;

// One byte of Region bits for each pixel, row after row. Any size; what is known of hair and of
// borders is scaled by the longer side.
void skin_regions(const Image& image, uint8_t* regions);

// A mask (0 or not) enlarged or reduced bilinearly and cut at one half: 0 or 255, row after row.
void resize_mask(const uint8_t* mask, ptrdiff_t height, ptrdiff_t width, uint8_t* out,
                 ptrdiff_t out_height, ptrdiff_t out_width);

}  // namespace melfast
