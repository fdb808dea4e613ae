// The antialiased triangle filter of a resize along one axis.
#pragma once

#include <vector>

#include "rows.h"

namespace melfast {

// The triangle's support grows with the reduction, and never falls below one input pixel. Where it
// reaches past an edge, the weights inside are scaled up to 1. As Pillow's BILINEAR.
class Filter {
 public:
  Filter(ptrdiff_t in_size, ptrdiff_t out_size);

  ptrdiff_t count() const { return count_; }

  // The weights are written to `weight`, which must outlive the taps; so must this filter.
  Taps<float> taps_f32(std::vector<float>& weight) const;

  // In 1/65536, those of one output adding up to it, so that a plain image stays as it is. A lone
  // weight of 1 becomes 65535, which is less than the rounding to a level.
  Taps<uint16_t> taps_u16(std::vector<uint16_t>& weight) const;

 private:
  ptrdiff_t out_size_, count_ = 0;
  std::vector<int32_t> first_;
  std::vector<double> weight_;
};

}  // namespace melfast
