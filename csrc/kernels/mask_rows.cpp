// Compiled once per instruction set; the rules of rows.cpp hold here too.
#include "mask_rows.h"

#include "simd.h"

namespace melfast::MELFAST_NAMESPACE {
namespace {

int32_t descale(int32_t sum, int bits) { return (sum + (1 << (bits - 1))) >> bits; }

int32_t luminance(const LabTables& t, const uint8_t* rgb) {
  return descale(871 * t.linear[rgb[0]] + 2929 * t.linear[rgb[1]] + 296 * t.linear[rgb[2]], 12);
}

void count_luminance(const uint8_t* rgb, ptrdiff_t n, const LabTables& tables, uint32_t* counts) {
  for (ptrdiff_t i = 0; i < n; ++i) ++counts[2 * luminance(tables, rgb + 3 * i) + (i & 1)];
}

uint8_t encode(const LabTables& t, int32_t sum) {
  int32_t level = descale(sum, 14);
  level = level < 0 ? 0 : level > 4095 ? 4095 : level;
  return t.encoded[level];
}

// The inverse of CIELAB's curve, both in 1/16384.
int32_t cube(int32_t f) { return f <= 3390 ? f * 108 / 841 - 290 : f * f / 16384 * f / 16384; }

void equalize(const uint8_t* rgb, ptrdiff_t n, const LabTables& t, const Equalized& how,
              uint8_t* grey, uint8_t* value) {
  for (ptrdiff_t i = 0; i < n; ++i, rgb += 3) {
    const int32_t r = t.linear[rgb[0]], g = t.linear[rgb[1]], b = t.linear[rgb[2]];
    const int32_t fx = t.root[descale(1777 * r + 1541 * g + 778 * b, 12)];
    const int32_t fy = t.root[luminance(t, rgb)];
    const int32_t fz = t.root[descale(73 * r + 448 * g + 3575 * b, 12)];
    const int32_t l = descale(296 * fy - 1336934, 15);
    const int32_t a = descale(500 * (fx - fy), 15) + 128, bb = descale(200 * (fy - fz), 15) + 128;
    const uint32_t pair = how.levels[l];
    const int32_t right = how.right[i];
    const int32_t mixed = static_cast<int32_t>(pair & 0xffff) * (16384 - right) +
                          static_cast<int32_t>(pair >> 16) * right;
    const int32_t light = descale(mixed, 21);
    const int32_t y = (light * 453745 + 18512790 + 4096) >> 13;
    const int32_t x3 = cube(y + ((5 * a * 53687 + 128) >> 13) - 4194);
    const int32_t z3 = cube(y - ((bb * 41943 + 16) >> 9) + 10484);
    const int32_t y3 = cube(y);
    const int32_t rr = encode(t, 12615 * x3 - 6296 * y3 - 2223 * z3);
    const int32_t gg = encode(t, -3773 * x3 + 7684 * y3 + 185 * z3);
    const int32_t b2 = encode(t, 217 * x3 - 836 * y3 + 4715 * z3);
    grey[i] = static_cast<uint8_t>((9798 * rr + 19235 * gg + 3735 * b2 + 16384) >> 15);
    const int32_t most = rr > gg ? rr : gg;
    value[i] = static_cast<uint8_t>(most > b2 ? most : b2);
  }
}

inline uint8_t larger(uint8_t a, uint8_t b) { return a > b ? a : b; }
inline uint8_t lesser(uint8_t a, uint8_t b) { return a < b ? a : b; }

void dilate_cross(const uint8_t* const* rows, ptrdiff_t n, uint8_t* __restrict out) {
  const uint8_t *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3], *r4 = rows[4],
                *r5 = rows[5], *r6 = rows[6], *r7 = rows[7], *r8 = rows[8];
  for (ptrdiff_t i = 0; i < n; ++i) {
    const uint8_t up = larger(larger(r0[i], r1[i]), larger(r2[i], r3[i]));
    const uint8_t down = larger(larger(r5[i], r6[i]), larger(r7[i], r8[i]));
    const uint8_t left = larger(larger(r4[i - 4], r4[i - 3]), larger(r4[i - 2], r4[i - 1]));
    const uint8_t right = larger(larger(r4[i + 4], r4[i + 3]), larger(r4[i + 2], r4[i + 1]));
    out[i] = larger(larger(larger(up, down), larger(left, right)), r4[i]);
  }
}

void black_hat(const uint8_t* const* rows, const uint8_t* __restrict grey, ptrdiff_t n,
               uint8_t* __restrict out) {
  const uint8_t *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3], *r4 = rows[4],
                *r5 = rows[5], *r6 = rows[6], *r7 = rows[7], *r8 = rows[8];
  for (ptrdiff_t i = 0; i < n; ++i) {
    const uint8_t up = lesser(lesser(r0[i], r1[i]), lesser(r2[i], r3[i]));
    const uint8_t down = lesser(lesser(r5[i], r6[i]), lesser(r7[i], r8[i]));
    const uint8_t left = lesser(lesser(r4[i - 4], r4[i - 3]), lesser(r4[i - 2], r4[i - 1]));
    const uint8_t right = lesser(lesser(r4[i + 4], r4[i + 3]), lesser(r4[i + 2], r4[i + 1]));
    const uint8_t least = lesser(lesser(lesser(up, down), lesser(left, right)), r4[i]);
    out[i] = static_cast<uint8_t>(least - grey[i]);
  }
}

void find_hair(const uint8_t* const* rows, ptrdiff_t n, uint64_t* bits) {
  const uint8_t *above = rows[0], *middle = rows[1], *below = rows[2];
  const auto across = [](const uint8_t* row, ptrdiff_t i) {
    return 84 * (row[i - 1] + row[i + 1]) + 88 * row[i];
  };
  for (ptrdiff_t first = 0; first < n; first += 64) {
    const int count = n - first < 64 ? static_cast<int>(n - first) : 64;
    uint64_t word = 0;
    for (int j = 0; j < count; ++j) {
      const ptrdiff_t i = first + j;
      const int sum = 84 * (across(above, i) + across(below, i)) + 88 * across(middle, i);
      word |= static_cast<uint64_t>(sum >= 20 * 65536 + 32768) << j;
    }
    bits[first / 64] = word;
  }
}

void clear(const uint64_t* bits, ptrdiff_t n, uint8_t* value) {
  for (ptrdiff_t i = 0; i < n; ++i)
    if (bits[i / 64] >> (i % 64) & 1) value[i] = 0;
}

void blur(const uint8_t* const* rows, ptrdiff_t n, uint8_t* __restrict out) {
  const uint8_t *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3], *r4 = rows[4];
  const auto down = [&](ptrdiff_t i) { return r0[i] + r4[i] + 4 * (r1[i] + r3[i]) + 6 * r2[i]; };
  for (ptrdiff_t i = 0; i < n; ++i) {
    const int sum = down(i - 2) + down(i + 2) + 4 * (down(i - 1) + down(i + 1)) + 6 * down(i);
    out[i] = static_cast<uint8_t>((sum + 128) >> 8);
  }
}

void count_levels(const uint8_t* value, ptrdiff_t n, uint32_t* counts) {
  for (ptrdiff_t i = 0; i < n; ++i) ++counts[4 * value[i] + (i & 3)];
}

void find_dark(const uint8_t* value, ptrdiff_t n, uint8_t threshold, uint64_t* bits) {
  for (ptrdiff_t first = 0; first < n; first += 64) {
    const int count = n - first < 64 ? static_cast<int>(n - first) : 64;
    uint64_t word = 0;
    for (int j = 0; j < count; ++j)
      word |= static_cast<uint64_t>(value[first + j] <= threshold) << j;
    bits[first / 64] = word;
  }
}

void any_of_cross(const uint64_t* above, const uint64_t* middle, const uint64_t* below,
                  ptrdiff_t words, uint64_t* __restrict out) {
  for (ptrdiff_t i = 0; i < words; ++i)
    out[i] = above[i] | below[i] | middle[i] | (middle[i] << 1 | middle[i - 1] >> 63) |
             (middle[i] >> 1 | middle[i + 1] << 63);
}

void all_of_cross(const uint64_t* above, const uint64_t* middle, const uint64_t* below,
                  ptrdiff_t words, uint64_t* __restrict out) {
  for (ptrdiff_t i = 0; i < words; ++i)
    out[i] = above[i] & below[i] & middle[i] & (middle[i] << 1 | middle[i - 1] >> 63) &
             (middle[i] >> 1 | middle[i + 1] << 63);
}

void write_either(const uint64_t* a, const uint64_t* b, ptrdiff_t n, uint8_t* out) {
  for (ptrdiff_t i = 0; i < n; ++i) out[i] = (a[i / 64] | b[i / 64]) >> (i % 64) & 1 ? 255 : 0;
}

}  // namespace

const MaskRows kMaskRows = {count_luminance, equalize,     dilate_cross, black_hat,
                            find_hair,       clear,        blur,         count_levels,
                            find_dark,       any_of_cross, all_of_cross, write_either};

}  // namespace melfast::MELFAST_NAMESPACE
