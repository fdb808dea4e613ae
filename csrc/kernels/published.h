// The mask of the published ITA pipeline.
#pragma once

#include "image.h"

namespace melfast {

// 255 where the published method takes a pixel for lesion or hair, else 0. `mask` is [height,
// width], contiguous.
void published_mask(const Image& image, uint8_t* mask);

}  // namespace melfast
