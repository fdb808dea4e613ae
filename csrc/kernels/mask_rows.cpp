// Compiled once per instruction set; the rules of rows.cpp apply here, too.
#include "mask_rows.h"

#include "simd.h"

namespace melfast::MELFAST_NAMESPACE {
namespace {

typedef int16_t Shorts __attribute__((vector_size(2 * kWords)));

// Pixels of a word of bits.
constexpr int kBlock = 64;
static_assert(kBlock <= kMaskPadding && kBlock % kWords == 0);

inline Shorts every(int value) { return Shorts{} + static_cast<int16_t>(value); }

// The upper halves of the products.
inline Shorts multiply_high(Shorts a, Shorts b) {
#if defined(__AVX2__)
  return (Shorts)_mm256_mulhi_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Shorts)_mm_mulhi_epi16((__m128i)a, (__m128i)b);
#else
  typedef int32_t Wide __attribute__((vector_size(4 * kWords)));
  const Wide product = __builtin_convertvector(a, Wide) * __builtin_convertvector(b, Wide);
  return __builtin_convertvector(product >> 16, Shorts);
#endif
}

inline Shorts least(Shorts a, Shorts b) { return a < b ? a : b; }
inline Shorts most(Shorts a, Shorts b) { return a > b ? a : b; }

struct Weights {
  int x, y, z;
};

// (x * w.x + y * w.y + z * w.z) / 2^kShift, rounded to nearest. Sums take 32 bits, results 16.
template <int kShift>
inline Shorts weigh(Shorts x, Shorts y, Shorts z, const Weights& w) {
#if defined(__AVX2__)
  const __m256i xy = _mm256_set1_epi32(w.y << 16 | (w.x & 0xffff));
  const __m256i z1 = _mm256_set1_epi32(1 << (16 + kShift - 1) | (w.z & 0xffff));
  const __m256i one = _mm256_set1_epi16(1);
  const auto half = [&](__m256i a, __m256i b) {
    return _mm256_srai_epi32(_mm256_add_epi32(_mm256_madd_epi16(a, xy), _mm256_madd_epi16(b, z1)),
                             kShift);
  };
  return (Shorts)_mm256_packs_epi32(
      half(_mm256_unpacklo_epi16((__m256i)x, (__m256i)y), _mm256_unpacklo_epi16((__m256i)z, one)),
      half(_mm256_unpackhi_epi16((__m256i)x, (__m256i)y), _mm256_unpackhi_epi16((__m256i)z, one)));
#elif defined(__SSE2__)
  const __m128i xy = _mm_set1_epi32(w.y << 16 | (w.x & 0xffff));
  const __m128i z1 = _mm_set1_epi32(1 << (16 + kShift - 1) | (w.z & 0xffff));
  const __m128i one = _mm_set1_epi16(1);
  const auto half = [&](__m128i a, __m128i b) {
    return _mm_srai_epi32(_mm_add_epi32(_mm_madd_epi16(a, xy), _mm_madd_epi16(b, z1)), kShift);
  };
  return (Shorts)_mm_packs_epi32(
      half(_mm_unpacklo_epi16((__m128i)x, (__m128i)y), _mm_unpacklo_epi16((__m128i)z, one)),
      half(_mm_unpackhi_epi16((__m128i)x, (__m128i)y), _mm_unpackhi_epi16((__m128i)z, one)));
#else
  typedef int32_t Wide __attribute__((vector_size(4 * kWords)));
  const Wide sum = __builtin_convertvector(x, Wide) * w.x + __builtin_convertvector(y, Wide) * w.y +
                   __builtin_convertvector(z, Wide) * w.z + (1 << (kShift - 1));
  Wide level = sum >> kShift;
  level = level < -32768 ? Wide{} - 32768 : level;
  level = level > 32767 ? Wide{} + 32767 : level;
  return __builtin_convertvector(level, Shorts);
#endif
}

// Planes of some pixels in a row. What is looked up goes pixel by pixel, the rest kWords at a time;
// loops alternate only every kSegment pixels, since bytes just written one by one are slow to read
// together. Each loop looks up little: short ones run ahead of their loads.
constexpr int kSegment = 256;

// Of X, Y and Z in the tables, see LabTables.
typedef uint32_t Place __attribute__((vector_size(16)));

struct Segment {
  Place places[kSegment];
  alignas(64) int16_t x[kSegment], y[kSegment], z[kSegment];
  alignas(64) Between levels[kSegment];
};

// Eight pixels are three words: loading bytes one by one takes longer.
void find_places(const uint8_t* rgb, int n, const LabTables& tables, Place* to) {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
  const auto place = [&](uint64_t r, uint64_t g, uint64_t b) {
    return (load<Place>(tables.red[r]) + load<Place>(tables.green[g]) +
            load<Place>(tables.blue[b])) >>
           12;
  };
  int i = 0;
  for (; i + 8 <= n; i += 8, rgb += 24) {
    uint64_t words[3];
    memcpy(words, rgb, sizeof words);
    const auto byte = [&](int at) { return words[at / 8] >> (8 * (at % 8)) & 255; };
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) to[i + k] = place(byte(3 * k), byte(3 * k + 1), byte(3 * k + 2));
  }
  for (; i < n; ++i, rgb += 3) to[i] = place(rgb[0], rgb[1], rgb[2]);
}

void count_luminance(const uint8_t* rgb, ptrdiff_t n, const LabTables& tables, uint32_t* counts) {
  Place at[kSegment];
  for (ptrdiff_t first = 0; first < n; first += kSegment) {
    const int count = n - first < kSegment ? static_cast<int>(n - first) : kSegment;
    find_places(rgb + 3 * first, count, tables, at);
    int i = 0;
    for (; i + kCounters <= count; i += kCounters)
      for (int k = 0; k < kCounters; ++k) ++counts[kCounters * at[i + k][1] + k];
    for (; i < count; ++i) ++counts[kCounters * at[i][1]];
  }
}

// x and z become the differences of the curves of CIELAB that make a and b.
void look_up(int n, const LabTables& tables, const Between* levels, Segment& at) {
  for (int i = 0; i < n; ++i) {
    const Place& place = at.places[i];
    const int root = tables.root[place[1]];
    at.x[i] = static_cast<int16_t>(tables.root[place[0]] - root);
    at.z[i] = static_cast<int16_t>(root - tables.root[place[2]]);
  }
  for (int i = 0; i < n; ++i) at.levels[i] = levels[tables.lightness[at.places[i][1]]];
}

typedef float Floats __attribute__((vector_size(4 * kWords)));
typedef int32_t Wides __attribute__((vector_size(4 * kWords)));

inline Floats floats(Shorts values) {
  return __builtin_convertvector(__builtin_convertvector(values, Wides), Floats);
}

// Rounds towards 0.
inline Shorts shorts(Floats values) {
  return __builtin_convertvector(__builtin_convertvector(values, Wides), Shorts);
}

// Lightness between the tiles.
inline Floats interpolate(const Between* levels, const Between* weights) {
  Floats light;
#if defined(__AVX2__)
  const auto four = [&](int at) {
    return _mm256_mul_ps(_mm256_loadu_ps(&levels[at].left), _mm256_loadu_ps(&weights[at].left));
  };
  const auto eight = [&](int at) {
    const __m256 sums = _mm256_hadd_ps(four(at), four(at + 4));  // pixels 0 1 4 5 2 3 6 7
    return _mm256_permute4x64_epi64(_mm256_castps_si256(sums), 0xd8);
  };
  const __m256i halves[2] = {eight(0), eight(8)};
  memcpy(&light, halves, sizeof light);
#else
  for (int i = 0; i < kWords; ++i)
    light[i] = levels[i].left * weights[i].left + levels[i].right * weights[i].right;
#endif
  return light;
}

inline Floats round_to_even(Floats values) {
  constexpr float kLarge = 12582912;
  return (values + kLarge) - kLarge;
}

// Whether a value is so close to a tie that the order of summation decides how it is rounded.
inline bool is_near_tie(Floats values) {
  const Floats rest = values - round_to_even(values), square = rest * rest;
  constexpr float kNear = 0.4999f * 0.4999f;
#if defined(__AVX2__)
  __m256 halves[2];
  memcpy(halves, &square, sizeof halves);
  const __m256 largest = _mm256_max_ps(halves[0], halves[1]);
  return _mm256_movemask_ps(_mm256_cmp_ps(largest, _mm256_set1_ps(kNear), _CMP_GT_OQ)) != 0;
#else
  float largest = 0;
  for (int i = 0; i < kWords; ++i) largest = largest > square[i] ? largest : square[i];
  return largest > kNear;
#endif
}

// The same in OpenCV's order of summation, columns before rows.
void interpolate_in_order(const Place* places, const LabTables& tables, const Equalized& how,
                          const Between* weights, Floats& light) {
  for (int i = 0; i < kWords; ++i) {
    const int at = tables.lightness[places[i][1]];
    const Between& weight = weights[i];
    const auto across = [&](const uint8_t* left, const uint8_t* right) {
      return left[at] * weight.left + right[at] * weight.right;
    };
    light[i] = across(how.above_left, how.above_right) * how.up +
               across(how.below_left, how.below_right) * how.down;
  }
}

// The inverse of CIELAB's curve, both in 1/16384. Above 20642 it stays at what 16 bits hold, which
// is beyond what any channel shows.
inline Shorts cube(Shorts f) {
  // Multiples of 1/841, rounded towards 0: half of one keeps whole numbers whole.
  const Shorts line = shorts(floats(f) * (108.0f / 841) + 0.5f / 841) - 290;
  const Words twice = (Words)least(f, every(20642)) << 1;
  const Words power = multiply_high(multiply_high(twice, twice) << 1, twice);
  return f > 3390 ? (Shorts)power : line;
}

// From there and the new lightness to linear RGB in 0..4095. OpenCV rounds a and b to 8 bits on the
// way, so this does too.
constexpr float kF = 100.0f * 16384 / (255 * 116), kF0 = 16 * 16384.0f / 116 + 0.5f;
constexpr float kA = 268435.0f / 8192, kA0 = 128.0f / 8192;
constexpr float kB = 41943.0f / 512, kB0 = 16.0f / 512;
constexpr float kLine = 16384.0 * 180 / (17.0 * 29 * 29 * 29);
constexpr float kPower = 16384.0 / (1479.0 * 1479 * 1479);

void to_linear(int n, const LabTables& tables, const Equalized& how, const Between* weights,
               Segment& at) {
  const auto within = [](Shorts level) { return least(most(level, every(0)), every(4095)); };
  for (int i = 0; i < n; i += kWords) {
    const Shorts a = (multiply_high(load<Shorts>(at.x + i), every(2000)) + 1) >> 1;
    const Shorts b = (multiply_high(load<Shorts>(at.z + i), every(800)) + 1) >> 1;
    Floats light = interpolate(at.levels + i, weights + i);
    if (is_near_tie(light)) interpolate_in_order(at.places + i, tables, how, weights + i, light);
    light = round_to_even(light);
    const Shorts f = shorts(light * kF + kF0);
    const Shorts x = cube(f + shorts(floats(a + 128) * kA + kA0) - 4194);
    const Shorts z = cube(f - shorts(floats(b + 128) * kB + kB0) + 10484);
    // 5 L + 204 is the curve without rounding, to its own scale.
    const Floats whole = light * 5.0f + 204.0f, line = light * kLine;
    const Floats power = whole * whole * whole * kPower;
    const Shorts y = shorts((light > 20.0f ? power : line) + 0.5f);
    const Shorts red = within(weigh<14>(x, y, z, {12615, -6296, -2223}));
    const Shorts green = within(weigh<14>(x, y, z, {-3773, 7684, 185}));
    const Shorts blue = within(weigh<14>(x, y, z, {217, -836, 4715}));
    memcpy(at.x + i, &red, sizeof red);
    memcpy(at.y + i, &green, sizeof green);
    memcpy(at.z + i, &blue, sizeof blue);
  }
}

void encode(int n, const LabTables& tables, int16_t* plane) {
  for (int i = 0; i < n; i += 4) {
    uint64_t word;
    memcpy(&word, plane + i, sizeof word);
    for (int k = 0; k < 4; ++k, word >>= 16) plane[i + k] = tables.encoded[word & 4095];
  }
}

void to_grey(int n, const Segment& from, uint8_t* grey, uint8_t* value) {
  for (int i = 0; i < n; i += kWords) {
    const Shorts r = load<Shorts>(from.x + i), g = load<Shorts>(from.y + i),
                 b = load<Shorts>(from.z + i);
    const Bytes level = __builtin_convertvector(weigh<15>(r, g, b, {9798, 19235, 3735}), Bytes);
    const Bytes largest = __builtin_convertvector(most(r, most(g, b)), Bytes);
    memcpy(grey + i, &level, sizeof level);
    memcpy(value + i, &largest, sizeof largest);
  }
}

void equalize(const uint8_t* rgb, ptrdiff_t n, const LabTables& tables, const Equalized& how,
              uint8_t* grey, uint8_t* value) {
  Segment segment = {};
  for (ptrdiff_t first = 0; first < n; first += kSegment) {
    const int count = n - first < kSegment ? static_cast<int>(n - first) : kSegment;
    find_places(rgb + 3 * first, count, tables, segment.places);
    look_up(count, tables, how.levels, segment);
    to_linear(count, tables, how, how.weights + first, segment);
    encode(count, tables, segment.x);
    encode(count, tables, segment.y);
    encode(count, tables, segment.z);
    to_grey(count, segment, grey + first, value + first);
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

// Bit i is set where byte i of kBlock, each 0 or 255, is.
inline uint64_t bits_of(const uint8_t* bytes) {
#if defined(__AVX2__)
  const auto half = [&](int at) {
    const __m256i part = _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes + at));
    return static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(part)));
  };
  return half(0) | half(32) << 32;
#elif defined(__SSE2__)
  const auto quarter = [&](int at) {
    const __m128i part = _mm_load_si128(reinterpret_cast<const __m128i*>(bytes + at));
    return static_cast<uint64_t>(_mm_movemask_epi8(part));
  };
  return quarter(0) | quarter(16) << 16 | quarter(32) << 32 | quarter(48) << 48;
#else
  uint64_t bits = 0;
  for (int i = 0; i < kBlock; ++i) bits |= static_cast<uint64_t>(bytes[i] & 1) << i;
  return bits;
#endif
}

// The reverse, eight at a time: each byte keeps its own bit, which then fills it.
inline void bytes_of(uint64_t bits, uint8_t* bytes) {
  for (int i = 0; i < 8; ++i, bits >>= 8) {
    const uint64_t own = (bits & 255) * 0x0101010101010101 & 0x8040201008040201;
    const uint64_t top = ((own + 0x007f7f7f7f7f7f7f) | own) & 0x8080808080808080;
    const uint64_t filled = (top >> 7) * 255;
    memcpy(bytes + 8 * i, &filled, sizeof filled);
  }
}

// The bits of a word that lie before n.
inline uint64_t inside(uint64_t bits, ptrdiff_t n) {
  return n < kBlock ? bits & ~(~uint64_t{0} << n) : bits;
}

constexpr uint8_t kHairAbove = 20;

// Whether anything in the block or around it is above the threshold; if not, no mean of it is.
bool may_have_hair(const uint8_t* above, const uint8_t* middle, const uint8_t* below) {
  uint8_t highest = 0;
  for (int i = 0; i < kBlock + 2; ++i)
    highest = larger(highest, larger(above[i], larger(middle[i], below[i])));
  return highest > kHairAbove;
}

// The weights are those of a Gaussian of sigma 4, 84 88 84 of 256, over 4: so sums fit into 16 and
// into 32 bits.
uint64_t hair_of(const uint8_t* above, const uint8_t* middle, const uint8_t* below) {
  uint16_t across[kBlock + 2], centre[kBlock + 2];
  for (int i = 0; i < kBlock + 2; ++i) {
    across[i] = static_cast<uint16_t>(21 * (above[i] + below[i]) + 22 * middle[i]);
    centre[i] = across[i];
  }
  alignas(64) uint8_t found[kBlock];
  constexpr int kLeast = (kHairAbove * 65536 + 32768) / 16;
  for (int i = 0; i < kBlock; ++i) {
    const int sum = 21 * (across[i] + across[i + 2]) + 22 * centre[i + 1];
    found[i] = sum >= kLeast ? 255 : 0;
  }
  return bits_of(found);
}

void find_hair(const uint8_t* const* rows, ptrdiff_t n, uint64_t* bits) {
  for (ptrdiff_t first = 0; first < n; first += kBlock) {
    const uint8_t *above = rows[0] + first - 1, *middle = rows[1] + first - 1,
                  *below = rows[2] + first - 1;
    uint64_t word = 0;
    if (may_have_hair(above, middle, below))
      word = inside(hair_of(above, middle, below), n - first);
    bits[first / kBlock] = word;
  }
}

void clear(const uint64_t* bits, ptrdiff_t n, uint8_t* value) {
  for (ptrdiff_t first = 0; first < n; first += kBlock, value += kBlock) {
    const uint64_t word = bits[first / kBlock];
    if (word == 0) continue;
    uint8_t hair[kBlock];
    bytes_of(word, hair);
    for (int i = 0; i < kBlock; ++i) value[i] &= static_cast<uint8_t>(~hair[i]);
  }
}

// Sums of 255 * 256 and a half of 256 fit into 16 bits.
void blur(const uint8_t* const* rows, ptrdiff_t n, uint8_t* __restrict out) {
  uint16_t down[kBlock + 4];
  for (ptrdiff_t first = 0; first < n; first += kBlock, out += kBlock) {
    const uint8_t *r0 = rows[0] + first - 2, *r1 = rows[1] + first - 2, *r2 = rows[2] + first - 2,
                  *r3 = rows[3] + first - 2, *r4 = rows[4] + first - 2;
    for (int i = 0; i < kBlock + 4; ++i) {
      const uint16_t outer = static_cast<uint16_t>(r0[i] + r4[i]);
      const uint16_t inner = static_cast<uint16_t>(r1[i] + r3[i]);
      down[i] = static_cast<uint16_t>(outer + 4 * inner + 6 * r2[i]);
    }
    for (int i = 0; i < kBlock; ++i) {
      const uint16_t outer = static_cast<uint16_t>(down[i] + down[i + 4]);
      const uint16_t inner = static_cast<uint16_t>(down[i + 1] + down[i + 3]);
      const uint16_t sum = static_cast<uint16_t>(outer + 4 * inner + 6 * down[i + 2] + 128);
      out[i] = static_cast<uint8_t>(sum >> 8);
    }
  }
}

void count_levels(const uint8_t* value, ptrdiff_t n, uint32_t* counts) {
  ptrdiff_t i = 0;
  for (; i + kCounters <= n; i += kCounters)
    for (int k = 0; k < kCounters; ++k) ++counts[kCounters * value[i + k] + k];
  for (; i < n; ++i) ++counts[kCounters * value[i]];
}

void find_dark(const uint8_t* value, ptrdiff_t n, uint8_t threshold, uint64_t* bits) {
  alignas(64) uint8_t dark[kBlock] = {};
  for (ptrdiff_t first = 0; first < n; first += kBlock, value += kBlock) {
    const int count = n - first < kBlock ? static_cast<int>(n - first) : kBlock;
    if (count == kBlock)
      for (int i = 0; i < kBlock; ++i) dark[i] = value[i] <= threshold ? 255 : 0;
    else
      for (int i = 0; i < count; ++i) dark[i] = value[i] <= threshold ? 255 : 0;
    bits[first / kBlock] = inside(bits_of(dark), count);
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
  ptrdiff_t first = 0;
  for (; first + kBlock <= n; first += kBlock)
    bytes_of(a[first / kBlock] | b[first / kBlock], out + first);
  if (first == n) return;
  uint8_t last[kBlock];
  bytes_of(a[first / kBlock] | b[first / kBlock], last);
  memcpy(out + first, last, static_cast<size_t>(n - first));
}

}  // namespace

const MaskRows kMaskRows = {count_luminance, equalize,     dilate_cross, black_hat,
                            find_hair,       clear,        blur,         count_levels,
                            find_dark,       any_of_cross, all_of_cross, write_either};

}  // namespace melfast::MELFAST_NAMESPACE
