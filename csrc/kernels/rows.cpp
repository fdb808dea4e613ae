// Compiled once per instruction set, with MELFAST_NAMESPACE naming it. Everything but kRows has
// internal linkage and no C++ library template is used: a function that the linker shares between
// the builds could bring AVX code to a machine without it.
#include "rows.h"

#include "simd.h"

namespace melfast::MELFAST_NAMESPACE {
namespace {

// Elements of a row whose sums stay in registers while the taps go by.
constexpr ptrdiff_t kBlend = 64;

void blend_block(const uint8_t* const* rows, const uint16_t* weight, ptrdiff_t taps, uint16_t start,
                 ptrdiff_t at, uint16_t* out) {
  Words sum[kBlend / kWords];
  for (Words& part : sum) part = all(start);
  for (ptrdiff_t k = 0; k < taps; ++k) {
    const uint8_t* row = rows[k] + at;
    for (int j = 0; j < kBlend / kWords; ++j)
      sum[j] += multiply_high(load_high(row + kWords * j), all(weight[k]));
  }
  memcpy(out + at, sum, sizeof sum);
}

void blend_u16(const uint8_t* const* rows, const uint16_t* weight, ptrdiff_t taps, uint16_t start,
               ptrdiff_t n, uint16_t* out) {
  if (n >= kBlend) {
    for (ptrdiff_t at = 0; at < n - kBlend; at += kBlend)
      blend_block(rows, weight, taps, start, at, out);
    return blend_block(rows, weight, taps, start, n - kBlend, out);  // overlaps the one before
  }
  for (ptrdiff_t i = 0; i < n; ++i) {
    uint32_t sum = start;
    for (ptrdiff_t k = 0; k < taps; ++k)
      sum += ((static_cast<uint32_t>(rows[k][i]) << 8) * weight[k]) >> 16;
    out[i] = static_cast<uint16_t>(sum);
  }
}

// mixed[4 i + r] is element i of row r, so that one weight serves twelve neighbours: a pixel of
// four rows. kCount is the number of taps where that is known, else 0.
template <int kCount>
void resample_mixed(const uint16_t* mixed, const TapsU16& taps, uint8_t* levels) {
  const ptrdiff_t count = kCount ? kCount : taps.count;
  const uint16_t* weight = taps.weight;
  for (ptrdiff_t x = 0; x < taps.size; ++x, weight += count) {
    const Words start = all(static_cast<uint16_t>(taps.start[x] + 128));
    const uint16_t* in = mixed + 12 * static_cast<ptrdiff_t>(taps.first[x]);
    for (int j = 0; j < 12; j += kWords) {
      Words sum = start;
      for (ptrdiff_t k = 0; k < count; ++k)
        sum += multiply_high(load<Words>(in + 12 * k + j), all(weight[k]));
      const Bytes level = __builtin_convertvector(sum >> 8, Bytes);
      memcpy(levels + 12 * x + j, &level, sizeof level);
    }
  }
}

void resample_u16(const uint16_t* const* in, ptrdiff_t n, const TapsU16& taps,
                  uint16_t* __restrict mixed, uint8_t* __restrict levels, uint8_t* const* out) {
  static_assert(kRowsAtOnce == 4);
  const uint16_t *in0 = in[0], *in1 = in[1], *in2 = in[2], *in3 = in[3];
  for (ptrdiff_t i = 0; i < n; ++i) {
    mixed[4 * i] = in0[i];
    mixed[4 * i + 1] = in1[i];
    mixed[4 * i + 2] = in2[i];
    mixed[4 * i + 3] = in3[i];
  }
  switch (taps.count) {
    case 1: resample_mixed<1>(mixed, taps, levels); break;
    case 2: resample_mixed<2>(mixed, taps, levels); break;
    case 3: resample_mixed<3>(mixed, taps, levels); break;
    case 4: resample_mixed<4>(mixed, taps, levels); break;
    case 5: resample_mixed<5>(mixed, taps, levels); break;
    case 6: resample_mixed<6>(mixed, taps, levels); break;
    default: resample_mixed<0>(mixed, taps, levels);
  }
  const ptrdiff_t width = 3 * taps.size;
  for (int r = 0; r < 4; ++r) {
    uint8_t* __restrict row = out[r];
    for (ptrdiff_t i = 0; i < width; ++i) row[i] = levels[4 * i + r];
  }
}

void blend_f32(const uint8_t* const* rows, const float* weight, ptrdiff_t taps, ptrdiff_t n,
               float* __restrict out) {
  for (ptrdiff_t i = 0; i < n; ++i) out[i] = 0;
  for (ptrdiff_t k = 0; k < taps; ++k) {
    const uint8_t* row = rows[k];
    const float w = weight[k];
    for (ptrdiff_t i = 0; i < n; ++i) out[i] += w * static_cast<float>(row[i]);
  }
}

void resample_f32(const float* in, const Taps<float>& taps, uint8_t* out) {
  const float* weight = taps.weight;
  for (ptrdiff_t x = 0; x < taps.size; ++x, weight += taps.count) {
    const float* pixel = in + 3 * static_cast<ptrdiff_t>(taps.first[x]);
    F4 sum = {};
    for (ptrdiff_t k = 0; k < taps.count; ++k) sum += weight[k] * load<F4>(pixel + 3 * k);
    if (x + 1 < taps.size)
      store_pixel(round_pixel(sum), out + 3 * x);
    else
      store_last_pixel(round_pixel(sum), out + 3 * x);
  }
}

void widen_row(const uint8_t* __restrict rgb, ptrdiff_t n, uint8_t* __restrict rgbx) {
  for (ptrdiff_t i = 0; i + 1 < n; ++i) memcpy(rgbx + 4 * i, rgb + 3 * i, 4);
  memcpy(rgbx + 4 * (n - 1), rgb + 3 * (n - 1), 3);
  rgbx[4 * n - 1] = 0;
}

// Pixels whose coordinates or colours are worked out together, one coordinate or channel at a time.
constexpr int kBlock = 64;

struct Samples {
  int32_t pixel[kBlock];
  float fx[kBlock], fy[kBlock];
};

float clamp(float value, float high) {
  value = value > 0 ? value : 0;
  return value < high ? value : high;
}

// The upper left neighbour of each sample, and how far the sample lies from it. The neighbour stays
// a row above the last, which is reached with a fraction of 1; right of the last column is memory
// to read, and it weighs nothing.
void locate(const WarpRow& at, ptrdiff_t first, ptrdiff_t height, ptrdiff_t width, Samples& to) {
  const float x0 = static_cast<float>(at.x0 + at.dx * static_cast<double>(first));
  const float y0 = static_cast<float>(at.y0 + at.dy * static_cast<double>(first));
  const float dx = static_cast<float>(at.dx), dy = static_cast<float>(at.dy);
  const float right = static_cast<float>(width - 1), bottom = static_cast<float>(height - 1);
  const int32_t stride = static_cast<int32_t>(width);
  const int32_t last = height > 1 ? static_cast<int32_t>(height - 2) : 0;
  for (int i = 0; i < kBlock; ++i) {
    const float x = clamp(x0 + static_cast<float>(i) * dx, right);
    const float y = clamp(y0 + static_cast<float>(i) * dy, bottom);
    const int32_t column = static_cast<int32_t>(x);
    const int32_t row = static_cast<int32_t>(y) < last ? static_cast<int32_t>(y) : last;
    to.pixel[i] = row * stride + column;
    to.fx[i] = x - static_cast<float>(column);
    to.fy[i] = y - static_cast<float>(row);
  }
}

void warp_row(const uint8_t* rgbx, ptrdiff_t height, ptrdiff_t width, const WarpRow& at,
              ptrdiff_t n, uint8_t* out) {
  const ptrdiff_t below = height > 1 ? 4 * width : 0;
  Samples s;
  const auto sample = [&](int i) {
    const uint8_t* from = rgbx + 4 * static_cast<ptrdiff_t>(s.pixel[i]);
    const F8 top = load_f8(from), bottom = load_f8(from + below);
    const F8 both = top + s.fy[i] * (bottom - top);
    const F4 left = lower(both), right = upper(both);
    return round_pixel(left + s.fx[i] * (right - left));
  };
  for (ptrdiff_t first = 0; first < n; first += kBlock) {
    locate(at, first, height, width, s);
    const bool ends = n - first <= kBlock;
    const int followed = ends ? static_cast<int>(n - first) - 1 : kBlock;
    for (int i = 0; i < followed; ++i, out += 3) store_pixel(sample(i), out);
    if (ends) store_last_pixel(sample(followed), out);
  }
}

void rgb_row(const uint8_t* __restrict rgb, ptrdiff_t n, const float* scale, const float* offset,
             float* __restrict out) {
  constexpr int kPeriod = 48;  // whole pixels and whole vectors
  float s[kPeriod], o[kPeriod];
  for (int i = 0; i < kPeriod; ++i) s[i] = scale[i % 3], o[i] = offset[i % 3];
  ptrdiff_t done = 0;
  for (; done + kPeriod <= 3 * n; done += kPeriod)
    for (int i = 0; i < kPeriod; ++i)
      out[done + i] = static_cast<float>(rgb[done + i]) * s[i] + o[i];
  for (int i = 0; done + i < 3 * n; ++i)
    out[done + i] = static_cast<float>(rgb[done + i]) * s[i] + o[i];
}

// Cube root of t in 0.008..1.1, within 3e-7 of itself. A third of the exponent gives r, 1 / cbrt(t)
// within 4 %. With h = 1 - t r^3, the root is t r^2 (1 - h)^(-2/3), and the power is a polynomial,
// fitted to the least relative error over |h| < 0.103. No division, and short chains of dependent
// operations.
float cube_root(float t) {
  const float third = static_cast<float>(bits_as<int32_t>(t)) * (1.0f / 3.0f);
  const float r = bits_as<float>(0x54a20000 - static_cast<int32_t>(third));
  const float root = t * r * r;
  const float h = 1.0f - root * r, h2 = h * h;
  const float low = 1.0f + 0.666666672f * h, middle = 0.555530806f + 0.493810684f * h;
  const float high = 0.45898325f + 0.427674538f * h;
  return root * (low + h2 * (middle + h2 * high));
}

// CIE 15: a cube root with a straight piece near black.
float lab_curve(float t) {
  const float root = cube_root(t), line = 7.787f * t + 16.0f / 116.0f;
  return t > 0.008856f ? root : line;
}

void lab_row(const uint8_t* rgb, ptrdiff_t n, const float* linear, const float* scale,
             const float* offset, float* out) {
  float r[kBlock] = {}, g[kBlock] = {}, b[kBlock] = {};
  for (ptrdiff_t first = 0; first < n; first += kBlock, rgb += 3 * kBlock, out += 3 * kBlock) {
    const int count = n - first < kBlock ? static_cast<int>(n - first) : kBlock;
    for (int i = 0; i < count; ++i) {
      r[i] = linear[rgb[3 * i]];
      g[i] = linear[rgb[3 * i + 1]];
      b[i] = linear[rgb[3 * i + 2]];
    }
    // XYZ over the white of D65, 2 degrees; both as scikit-image has them.
    for (int i = 0; i < kBlock; ++i) {
      const float x = lab_curve(0.412453f / 0.95047f * r[i] + 0.357580f / 0.95047f * g[i] +
                                0.180423f / 0.95047f * b[i]);
      const float y = lab_curve(0.212671f * r[i] + 0.715160f * g[i] + 0.072169f * b[i]);
      const float z = lab_curve(0.019334f / 1.08883f * r[i] + 0.119193f / 1.08883f * g[i] +
                                0.950227f / 1.08883f * b[i]);
      r[i] = (116.0f * y - 16.0f) * scale[0] + offset[0];
      g[i] = 500.0f * (x - y) * scale[1] + offset[1];
      b[i] = 200.0f * (y - z) * scale[2] + offset[2];
    }
    for (int i = 0; i < count; ++i) {
      out[3 * i] = r[i];
      out[3 * i + 1] = g[i];
      out[3 * i + 2] = b[i];
    }
  }
}

// The inverse of lab_curve.
float lab_uncurve(float f) {
  const float cube = f * f * f, line = (f - 16.0f / 116.0f) * (1.0f / 7.787f);
  return f > 0.20689270f ? cube : line;
}

uint8_t srgb_level(float light, const SrgbTable& table) {
  const int guess = table.guess[static_cast<int32_t>(light * kLightBins)];
  return static_cast<uint8_t>(guess + (light >= table.threshold[guess] ? 1 : 0));
}

void srgb_row(const float* lab, ptrdiff_t n, const SrgbTable& table, uint8_t* rgb) {
  float r[kBlock] = {}, g[kBlock] = {}, b[kBlock] = {};
  for (ptrdiff_t first = 0; first < n; first += kBlock, lab += 3 * kBlock, rgb += 3 * kBlock) {
    const int count = n - first < kBlock ? static_cast<int>(n - first) : kBlock;
    for (int i = 0; i < count; ++i) {
      r[i] = lab[3 * i];
      g[i] = lab[3 * i + 1];
      b[i] = lab[3 * i + 2];
    }
    for (int i = 0; i < kBlock; ++i) {
      const float fy = (r[i] + 16.0f) * (1.0f / 116.0f);
      const float x = lab_uncurve(fy + g[i] * (1.0f / 500.0f)), y = lab_uncurve(fy);
      const float z = lab_uncurve(fy - b[i] * (1.0f / 200.0f));
      // The inverse of lab_row's matrix.
      r[i] = clamp(3.0799803f * x - 1.53715152f * y - 0.542821308f * z, 1);
      g[i] = clamp(-0.921247752f * x + 1.87599f * y + 0.0452473395f * z, 1);
      b[i] = clamp(0.0528904611f * x - 0.204041338f * y + 1.151232f * z, 1);
    }
    for (int i = 0; i < count; ++i) {
      rgb[3 * i] = srgb_level(r[i], table);
      rgb[3 * i + 1] = srgb_level(g[i], table);
      rgb[3 * i + 2] = srgb_level(b[i], table);
    }
  }
}

uint8_t level_of(float value) {
  return static_cast<uint8_t>(static_cast<int32_t>(clamp(value, 255) + 0.5f));
}

void jitter_row(const float* m, ptrdiff_t n, uint8_t* rgb) {
  float r[kBlock] = {}, g[kBlock] = {}, b[kBlock] = {};
  uint8_t red[kBlock], green[kBlock], blue[kBlock];
  for (ptrdiff_t first = 0; first < n; first += kBlock, rgb += 3 * kBlock) {
    const int count = n - first < kBlock ? static_cast<int>(n - first) : kBlock;
    for (int i = 0; i < count; ++i) {
      r[i] = rgb[3 * i];
      g[i] = rgb[3 * i + 1];
      b[i] = rgb[3 * i + 2];
    }
    for (int i = 0; i < kBlock; ++i) {
      red[i] = level_of(m[0] * r[i] + m[1] * g[i] + m[2] * b[i] + m[3]);
      green[i] = level_of(m[4] * r[i] + m[5] * g[i] + m[6] * b[i] + m[7]);
      blue[i] = level_of(m[8] * r[i] + m[9] * g[i] + m[10] * b[i] + m[11]);
    }
    for (int i = 0; i < count; ++i) {
      rgb[3 * i] = red[i];
      rgb[3 * i + 1] = green[i];
      rgb[3 * i + 2] = blue[i];
    }
  }
}

uint16_t half_of(float value) {
  const int32_t bits = bits_as<int32_t>(value);
  const int32_t magnitude = bits & 0x7fffffff;
  // Below 2^-14, adding 0.5 leaves the multiple of 2^-24 in the low bits, rounded.
  const int32_t small = bits_as<int32_t>(bits_as<float>(magnitude) + 0.5f) - 0x3f000000;
  const int32_t normal = (magnitude + 0xfff + ((magnitude >> 13) & 1) - 0x38000000) >> 13;
  int32_t half = magnitude < 0x38800000 ? small : normal;
  half = magnitude >= 0x477ff000 ? 0x7c00 : half;  // 65520 rounds to infinity
  half = magnitude > 0x7f800000 ? 0x7e00 : half;
  return static_cast<uint16_t>(half | ((bits >> 16) & 0x8000));
}

void to_half(const float* __restrict in, ptrdiff_t n, uint16_t* __restrict out) {
  ptrdiff_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
#endif
  for (; i < n; ++i) out[i] = half_of(in[i]);
}

}  // namespace

const Rows kRows = {blend_u16, resample_u16, blend_f32, resample_f32, widen_row, warp_row,
                    rgb_row,   lab_row,      srgb_row,  jitter_row,   to_half};

}  // namespace melfast::MELFAST_NAMESPACE
