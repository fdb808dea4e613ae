// The inner loops, a few rows at a time. rows.cpp is compiled once per instruction set; every build
// of it gives the same bits, so results do not depend on the machine.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace melfast {

// Elements that the loops may read past the end of a scratch row, or write past the end of one.
inline constexpr ptrdiff_t kRowPadding = 64;

// A resampling filter along one axis: output i is the sum over k < count of
// weight[i * count + k] * input[first[i] + k]; first[i] + count never passes the end of the input.
template <class Weight>
struct Taps {
  ptrdiff_t size;   // outputs
  ptrdiff_t count;  // taps of each output; those at the ends may weigh nothing
  const int32_t* first;
  const Weight* weight;
};

// Sums start at start[i], in 1/256 of a level: what rounding down at each tap loses on average.
struct TapsU16 : Taps<uint16_t> {
  const uint16_t* start;
};

// Most taps of the 16-bit resampling: each is rounded to 1/256 of a level.
inline constexpr ptrdiff_t kMostTapsU16 = 32;

// Rows that the 16-bit resampling works on side by side.
inline constexpr ptrdiff_t kRowsAtOnce = 4;

// Where a row of a warp samples its source: column i reads (x0 + i * dx, y0 + i * dy), in pixels.
struct WarpRow {
  double x0, y0, dx, dy;
};

// Linear light in 0..1 to the nearest sRGB level: bin i of kLightBins begins at level guess[i], and
// the level is one more from threshold[level] on. No bin holds two thresholds.
inline constexpr int kLightBins = 4096;
struct SrgbTable {
  uint8_t guess[kLightBins + 1];
  float threshold[256];
};

struct Rows {
  // Resampling in 16 bits: weights are 1/65536, sums 1/256 of a level. Down the columns:
  // out[i] = start + sum over k < taps of weight[k] * rows[k][i], for i < n.
  void (*blend_u16)(const uint8_t* const* rows, const uint16_t* weight, ptrdiff_t taps,
                    uint16_t start, ptrdiff_t n, uint16_t* out);
  // Along kRowsAtOnce RGB rows of n elements: rounds to nearest. `mixed` (kRowsAtOnce * n) and
  // `levels` (kRowsAtOnce * 3 * taps.size) are scratch.
  void (*resample_u16)(const uint16_t* const* in, ptrdiff_t n, const TapsU16& taps, uint16_t* mixed,
                       uint8_t* levels, uint8_t* const* out);
  // The same in float32, a row at a time, for any number of taps; sums start at 0.
  void (*blend_f32)(const uint8_t* const* rows, const float* weight, ptrdiff_t taps, ptrdiff_t n,
                    float* out);
  void (*resample_f32)(const float* in, const Taps<float>& taps, uint8_t* out);
  // n pixels of RGB as RGBx, four bytes a pixel.
  void (*widen_row)(const uint8_t* rgb, ptrdiff_t n, uint8_t* rgbx);
  // Bilinear, edges clamped, n pixels of RGB from contiguous RGBx with padding behind it.
  void (*warp_row)(const uint8_t* rgbx, ptrdiff_t height, ptrdiff_t width, const WarpRow& at,
                   ptrdiff_t n, uint8_t* out);
  // n RGB pixels times scale plus offset per channel.
  void (*rgb_row)(const uint8_t* rgb, ptrdiff_t n, const float* scale, const float* offset,
                  float* out);
  // The same of their CIELAB; `linear` is the sRGB decoding table.
  void (*lab_row)(const uint8_t* rgb, ptrdiff_t n, const float* linear, const float* scale,
                  const float* offset, float* out);
  // And back: n colours of CIELAB to the nearest sRGB levels, each channel clipped; NaN gives 0.
  void (*srgb_row)(const float* lab, ptrdiff_t n, const SrgbTable& table, uint8_t* rgb);
  // n RGB pixels by a 3 x 4 matrix on levels, row-major; clipped, rounds to nearest.
  void (*jitter_row)(const float* matrix, ptrdiff_t n, uint8_t* rgb);
  // n numbers as IEEE 754 binary16, to nearest, ties to even.
  void (*to_half)(const float* in, ptrdiff_t n, uint16_t* out);
};

namespace baseline {
extern const Rows kRows;
}
namespace avx2 {
extern const Rows kRows;
}
namespace avx512 {
extern const Rows kRows;
}

}  // namespace melfast
