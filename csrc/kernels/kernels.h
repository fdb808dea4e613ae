// Everything the core can do. Arguments are taken as checked; the caller owns all the memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "image.h"

namespace melfast {

enum class Colour { kRgb, kLab };

// (value - mean) / std per channel: RGB as 0..1, CIELAB with L in 0..100.
struct Normalization {
  Colour colour;
  double mean[3], std[3];
};

// Row-major 2 x 3, output to input, x and y running from -1 to 1 over width and height.
struct Affine {
  double m[6];

  bool is_identity() const {
    return m[0] == 1 && m[1] == 0 && m[2] == 0 && m[3] == 0 && m[4] == 1 && m[5] == 0;
  }
};

// Antialiased triangle filter, as Pillow's BILINEAR; rounds to nearest. `out` is uint8.
void resize(const Image& image, const Output& out);

// Bilinear, edges clamped; `out` is uint8 and as large as the image.
void warp_affine(const Image& image, const Affine& affine, const Output& out);

// D65, 2 degrees. `rgb` and `lab` are contiguous, `count` pixels.
void srgb_to_lab(const uint8_t* rgb, ptrdiff_t count, float* lab);

// `out` is float32 or float16 and as large as the image.
void normalize(const Image& image, const Normalization& how, const Output& out);

// resize, warp_affine unless the identity, normalize unless `out` is uint8.
void prepare(const Image& image, const Affine& affine, const Normalization& how, const Output& out);

}  // namespace melfast
