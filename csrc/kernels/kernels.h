// All functions of the core. Arguments must have been checked; the caller owns all memory.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "image.h"
#include "pixels.h"

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

  // Whether a corner of the output lies outside the input; 1e-6 allows for the rounding of float32
  // matrices.
  bool reaches_out() const {
    const auto furthest = [](const double* row) {
      return std::abs(row[0]) + std::abs(row[1]) + std::abs(row[2]);
    };
    return furthest(m) > 1 + 1e-6 || furthest(m + 3) > 1 + 1e-6;
  }
};

// Antialiased triangle filter, as Pillow's BILINEAR; rounds to nearest. `out` is uint8.
void resize(const Image& image, const Extent& extent, const Output& out);

// Bilinear, edges clamped; `out` is uint8 and as large as the image.
void warp_affine(const Image& image, const Affine& affine, const Output& out);

// D65, 2 degrees. `rgb` is uint8, `lab` contiguous.
void srgb_to_lab(const Pixels& rgb, float* lab);

// The nearest sRGB colours; out of gamut each channel is clipped. `lab` is float32, `rgb`
// contiguous. A NaN gives 0 in the channels that it reaches.
void lab_to_srgb(const Pixels& lab, uint8_t* rgb);

// One byte a pixel to read, any strides.
struct Weights {
  const uint8_t* data;
  ptrdiff_t row_stride, pixel_stride;
};

// Adds weight / 255 times `offset` to each pixel's CIELAB. `out` is uint8 and as large as the image
// and the weights.
void shift_lab(const Image& image, const Weights& weights, const float* offset, const Output& out);

// Mixes each pixel, by weight / 255, with its colour after `curves` (256 levels for each channel).
void apply_curves(const Image& image, const Weights& weights, const uint8_t* curves,
                  const Output& out);

// `out` is float32 or float16 and as large as the image.
void normalize(const Image& image, const Normalization& how, const Output& out);

// Further operations on the pixels of an image, in this order; see prepare.
struct Retouch {
  Weights mask;           // of the lesion, as large as the output; no data: none
  const uint8_t* curves;  // 256 levels for each channel, applied outside the lesion; null: none
  const float* jitter;    // 3 x 4 on levels, row-major, the result clipped; null: none
  bool masked;            // everything outside the lesion is made black
  ptrdiff_t erase[4];     // y0, x0, y1, x1
  uint8_t fill[3];        // colour of the erased box
};

// resize of `extent` to `working` size, warp_affine to the output's unless that is the same and the
// affine the identity, retouch, normalize unless `out` is uint8.
void prepare(const Image& image, const Extent& extent, ptrdiff_t working_height,
             ptrdiff_t working_width, const Affine& affine, const Retouch& retouch,
             const Normalization& how, const Output& out);

}  // namespace melfast
