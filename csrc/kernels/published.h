// The mask of the published ITA pipeline.
#pragma once

#include "image.h"

namespace melfast {

// 255 for pixels that the published method classifies as lesion or hair, otherwise 0. `mask` is
// [height, width], contiguous.
void published_mask(const Image& image, uint8_t* mask);

}  // namespace melfast
