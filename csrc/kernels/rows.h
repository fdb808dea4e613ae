// The inner loops, one row at a time. rows.cpp is compiled once per instruction set; every build of it
// gives the same bits, so results do not depend on the machine.
#pragma once

#include <cstddef>
#include <cstdint>

namespace melfast {

// Elements that the loops may read past the end of a scratch row, or write past the end of one.
inline constexpr ptrdiff_t kRowPadding = 64;

// Taps of a resampling filter along one axis: output i is the sum over k < count[i] of
// weight[i * stride + k] * input[first[i] + k].
struct Taps {
  ptrdiff_t size;    // outputs
  ptrdiff_t stride;  // most taps of any output
  const int32_t* first;
  const int32_t* count;
  const float* weight;
};

// Where a row of a warp samples its source: column i reads (x0 + i * dx, y0 + i * dy), in pixels.
struct WarpRow {
  double x0, y0, dx, dy;
};

struct Rows {
  // out[i] = sum over k < taps of weight[k] * rows[k][i], for i < n.
  void (*blend_rows)(const uint8_t* const* rows, const float* weight, ptrdiff_t taps, ptrdiff_t n,
                     float* out);
  // One RGB row through the horizontal taps, rounded to nearest. `in` is padded.
  void (*resample_row)(const float* in, const Taps& taps, uint8_t* out);
  // Bilinear, edges clamped; `source` is contiguous, with padding behind it.
  void (*warp_row)(const uint8_t* source, ptrdiff_t height, ptrdiff_t width, const WarpRow& at,
                   ptrdiff_t n, uint8_t* out);
  // CIELAB times scale plus offset, per channel; `linear` is the sRGB decoding table.
  void (*lab_row)(const uint8_t* rgb, ptrdiff_t n, const float* linear, const float* scale,
                  const float* offset, float* out);
  // out[i] = table[i % 3][in[i]].
  void (*look_up_f32)(const uint8_t* rgb, ptrdiff_t n, const float* table, float* out);
  void (*look_up_f16)(const uint8_t* rgb, ptrdiff_t n, const uint16_t* table, uint16_t* out);
  // IEEE 754 binary16, to nearest, ties to even.
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
