// Colour conversion and normalisation, row by row.
#pragma once

#include "kernels.h"

namespace melfast {

class Normalizer {
 public:
  Normalizer(const Normalization& how, Element element, ptrdiff_t width);

  // One row of contiguous RGB to one of float32 or float16, as `element` says.
  void row(const uint8_t* rgb, void* out) const;

 private:
  Colour colour_;
  Element element_;
  ptrdiff_t width_;
  float scale_[3], offset_[3];
};

}  // namespace melfast
