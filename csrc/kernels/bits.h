// Binary images with 64 pixels per word, and their morphology with a cross of 3x3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace melfast {

// Pixel x of a row is bit x % 64 of its word x / 64. There is an extra word before and after each
// row.
class Bits {
 public:
  // All 0.
  Bits(ptrdiff_t height, ptrdiff_t width);

  ptrdiff_t height() const { return height_; }
  ptrdiff_t width() const { return width_; }
  uint64_t* row(ptrdiff_t y) { return words_.data() + y * stride_ + 1; }
  const uint64_t* row(ptrdiff_t y) const { return words_.data() + y * stride_ + 1; }

  // Each `times` times; pixels outside are ignored, as with OpenCV's default border.
  void dilate(int times);
  void erode(int times);
  void open(int times) { erode(times), dilate(times); }
  void close(int times) { dilate(times), erode(times); }

 private:
  template <bool kAny>
  void spread(int times);

  ptrdiff_t height_, width_, stride_;
  std::vector<uint64_t> words_;
};

}  // namespace melfast
