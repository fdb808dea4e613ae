#include "bits.h"

#include <algorithm>

#include "dispatch.h"
#include "mask_rows.h"

namespace melfast {

Bits::Bits(ptrdiff_t height, ptrdiff_t width)
    : height_(height),
      width_(width),
      stride_((width + 63) / 64 + 2),
      words_(static_cast<size_t>(height * stride_)) {}

void Bits::dilate(int times) { spread<true>(times); }
void Bits::erode(int times) { spread<false>(times); }

// All iterations go down the image together, each a row behind the one before, so that the rows
// they read are in the cache. An iteration overwrites its row, which its next row still reads:
// `above` keeps one row for each.
//
// Pixels right of the image start as neutral values. Later iterations change them, which does
// no harm: no path between two pixels of a rectangle is shorter through the outside.
template <bool kAny>
void Bits::spread(int times) {
  const uint64_t outside = kAny ? 0 : ~uint64_t{0};
  const uint64_t tail = width_ % 64 ? ~uint64_t{0} << (width_ % 64) : 0;
  const ptrdiff_t words = stride_ - 2;
  for (ptrdiff_t y = 0; y < height_; ++y) {
    uint64_t* line = row(y);
    line[-1] = line[words] = outside;
    line[words - 1] = kAny ? line[words - 1] & ~tail : line[words - 1] | tail;
  }
  const MaskRows& loops = mask_rows();
  const auto kept = static_cast<size_t>(stride_);
  const std::vector<uint64_t> edge(kept, outside);
  std::vector<std::vector<uint64_t>> above(static_cast<size_t>(times), edge);
  std::vector<uint64_t> middle(kept);
  for (ptrdiff_t front = 0; front < height_ + times - 1; ++front) {
    for (int k = 0; k < times; ++k) {
      const ptrdiff_t y = front - k;
      if (y < 0 || y >= height_) continue;
      std::copy_n(row(y) - 1, kept, middle.begin());
      const uint64_t* below = y + 1 < height_ ? row(y + 1) : edge.data() + 1;
      uint64_t* before = above[static_cast<size_t>(k)].data() + 1;
      (kAny ? loops.any_of_cross : loops.all_of_cross)(before, middle.data() + 1, below, words,
                                                       row(y));
      above[static_cast<size_t>(k)].swap(middle);
    }
  }
}

}  // namespace melfast
