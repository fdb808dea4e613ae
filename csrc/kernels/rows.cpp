// Compiled once per instruction set, with MELFAST_NAMESPACE naming it. Everything but kRows has internal
// linkage and no C++ library template is used: a function that the linker shares between the builds could
// bring AVX code to a machine without it.
#include "rows.h"

#include <cmath>
#include <cstring>

namespace melfast::MELFAST_NAMESPACE {
namespace {

uint8_t round_to_u8(float value) {
  const int level = static_cast<int>(value + 0.5f);
  return static_cast<uint8_t>(level > 255 ? 255 : level);
}

void blend_rows(const uint8_t* const* rows, const float* weight, ptrdiff_t taps, ptrdiff_t n,
                float* out) {
  for (ptrdiff_t i = 0; i < n; ++i) out[i] = weight[0] * rows[0][i];
  for (ptrdiff_t k = 1; k < taps; ++k)
    for (ptrdiff_t i = 0; i < n; ++i) out[i] += weight[k] * rows[k][i];
}

void resample_row(const float* in, const Taps& taps, uint8_t* out) {
  for (ptrdiff_t x = 0; x < taps.size; ++x) {
    const float* source = in + 3 * taps.first[x];
    const float* weight = taps.weight + x * taps.stride;
    float sum[3] = {0, 0, 0};
    for (ptrdiff_t k = 0; k < taps.count[x]; ++k)
      for (int c = 0; c < 3; ++c) sum[c] += weight[k] * source[3 * k + c];
    for (int c = 0; c < 3; ++c) out[3 * x + c] = round_to_u8(sum[c]);
  }
}

float clamp(float value, float high) { return value < 0 ? 0 : value > high ? high : value; }

void warp_row(const uint8_t* source, ptrdiff_t height, ptrdiff_t width, const WarpRow& at,
              ptrdiff_t n, uint8_t* out) {
  for (ptrdiff_t i = 0; i < n; ++i) {
    const float x = clamp(static_cast<float>(at.x0 + i * at.dx), static_cast<float>(width - 1));
    const float y = clamp(static_cast<float>(at.y0 + i * at.dy), static_cast<float>(height - 1));
    const auto x0 = static_cast<ptrdiff_t>(x), y0 = static_cast<ptrdiff_t>(y);
    const ptrdiff_t x1 = x0 + 1 < width ? x0 + 1 : x0, y1 = y0 + 1 < height ? y0 + 1 : y0;
    const float fx = x - x0, fy = y - y0;
    for (int c = 0; c < 3; ++c) {
      const float a = source[(y0 * width + x0) * 3 + c], b = source[(y0 * width + x1) * 3 + c];
      const float d = source[(y1 * width + x0) * 3 + c], e = source[(y1 * width + x1) * 3 + c];
      const float top = a + fx * (b - a), bottom = d + fx * (e - d);
      out[3 * i + c] = round_to_u8(top + fy * (bottom - top));
    }
  }
}

float lab_curve(float t) {
  return t > 0.008856f ? std::cbrt(t) : 7.787f * t + 16.0f / 116.0f;
}

void lab_row(const uint8_t* rgb, ptrdiff_t n, const float* linear, const float* scale,
             const float* offset, float* out) {
  for (ptrdiff_t i = 0; i < n; ++i) {
    const float r = linear[rgb[3 * i]], g = linear[rgb[3 * i + 1]], b = linear[rgb[3 * i + 2]];
    const float x = lab_curve((0.412453f * r + 0.357580f * g + 0.180423f * b) / 0.95047f);
    const float y = lab_curve(0.212671f * r + 0.715160f * g + 0.072169f * b);
    const float z = lab_curve((0.019334f * r + 0.119193f * g + 0.950227f * b) / 1.08883f);
    out[3 * i] = (116.0f * y - 16.0f) * scale[0] + offset[0];
    out[3 * i + 1] = 500.0f * (x - y) * scale[1] + offset[1];
    out[3 * i + 2] = 200.0f * (y - z) * scale[2] + offset[2];
  }
}

template <class T>
void look_up(const uint8_t* rgb, ptrdiff_t n, const T* table, T* out) {
  for (ptrdiff_t i = 0; i < n; ++i)
    for (int c = 0; c < 3; ++c) out[3 * i + c] = table[256 * c + rgb[3 * i + c]];
}

uint16_t half_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (bits >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (bits < 0x38800000u) {
    // Subnormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits.
    float magnitude;
    std::memcpy(&magnitude, &bits, sizeof bits);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, sizeof bits);
    return static_cast<uint16_t>(sign | (bits - 0x3f000000u));
  }
  bits += 0xfffu + ((bits >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((bits - 0x38000000u) >> 13));
}

void to_half(const float* in, ptrdiff_t n, uint16_t* out) {
  for (ptrdiff_t i = 0; i < n; ++i) out[i] = half_of(in[i]);
}

}  // namespace

const Rows kRows = {blend_rows,     resample_row,      warp_row, lab_row,
                    look_up<float>, look_up<uint16_t>, to_half};

}  // namespace melfast::MELFAST_NAMESPACE
