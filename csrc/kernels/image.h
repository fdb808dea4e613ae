// Views of pixels owned by the caller: a pointer, counts and strides.
#pragma once

#include <cstddef>
#include <cstdint>

namespace melfast {

// uint8 RGB to read: channels adjacent, any strides (in bytes, negative ones too) between pixels
// and rows.
struct Image {
  const uint8_t* data;
  ptrdiff_t height, width;
  ptrdiff_t row_stride, pixel_stride;

  const uint8_t* row(ptrdiff_t y) const { return data + y * row_stride; }
};

// The part of an image that contains the picture, in pixels: if a JPEG is decoded at 1/4, the last
// row and column may be only partly picture.
struct Extent {
  double top, left, bottom, right;

  bool operator==(const Extent&) const = default;
};

inline Extent whole(const Image& image) {
  return {0, 0, static_cast<double>(image.height), static_cast<double>(image.width)};
}

enum class Element { kU8, kF16, kF32 };

// Pixels to write: three channels, each row contiguous, any stride in bytes between rows.
struct Output {
  void* data;
  Element element;
  ptrdiff_t height, width;
  ptrdiff_t row_stride;

  uint8_t* row(ptrdiff_t y) const { return static_cast<uint8_t*>(data) + y * row_stride; }
};

}  // namespace melfast
