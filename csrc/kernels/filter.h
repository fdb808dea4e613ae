// The antialiased triangle filter of a resize along one axis.
#pragma once

#include <vector>

#include "rows.h"

namespace melfast {

// The triangle's support grows with the reduction, and is at least one input pixel. Where it
// reaches past an edge, the weights inside are scaled to add up to 1. Like Pillow's BILINEAR.
class Filter {
 public:
  // From begin to end of the in_size pixels; a pixel at an end counts by the part of it that is
  // inside.
  Filter(ptrdiff_t in_size, double begin, double end, ptrdiff_t out_size);

  ptrdiff_t count() const { return count_; }

  // The weights are written to `weight`, which must outlive the taps; so must this filter.
  Taps<float> taps_f32(std::vector<float>& weight) const;

  // In 1/65536; the weights of an output add up to it, so that a uniform image stays the same; a
  // single 1 becomes 65535. `steps` is the number of steps to a level in the input: 1 for an image,
  // 256 for the sums of another pass.
  TapsU16 taps_u16(int steps, std::vector<uint16_t>& weight, std::vector<uint16_t>& start) const;

 private:
  ptrdiff_t out_size_, count_ = 0;
  std::vector<int32_t> first_;
  std::vector<double> weight_;
};

}  // namespace melfast
