// Vectors for rows.cpp alone, which is compiled once per instruction set. A vector that is wider
// than the machine's takes two registers. Intrinsics stand only where GCC does not find the
// instruction itself.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace melfast::MELFAST_NAMESPACE {
namespace {

typedef float F4 __attribute__((vector_size(16)));
typedef float F8 __attribute__((vector_size(32)));
typedef int32_t I4 __attribute__((vector_size(16)));
typedef int32_t I8 __attribute__((vector_size(32)));
typedef uint8_t B4 __attribute__((vector_size(4)));
typedef uint8_t B8 __attribute__((vector_size(8)));

// A register full of 16-bit numbers, and as many bytes.
#if defined(__AVX2__)
constexpr int kWords = 16;
#else
constexpr int kWords = 8;
#endif
typedef uint16_t Words __attribute__((vector_size(2 * kWords)));
typedef uint8_t Bytes __attribute__((vector_size(kWords)));

template <class To, class From>
inline To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

template <class Vector, class Element>
inline Vector load(const Element* from) {
  Vector value;
  memcpy(&value, from, sizeof value);
  return value;
}

inline Words all(uint16_t value) { return Words{} + value; }

// kWords bytes times 256.
inline Words load_high(const uint8_t* from) {
#if defined(__AVX2__)
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return (Words)_mm256_slli_epi16(_mm256_cvtepu8_epi16(bytes), 8);
#elif defined(__SSE2__)
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return (Words)_mm_unpacklo_epi8(_mm_setzero_si128(), bytes);
#else
  return __builtin_convertvector(load<Bytes>(from), Words) << 8;
#endif
}

// The upper halves of the products.
inline Words multiply_high(Words a, Words b) {
#if defined(__AVX2__)
  return (Words)_mm256_mulhi_epu16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Words)_mm_mulhi_epu16((__m128i)a, (__m128i)b);
#else
  typedef uint32_t Wide __attribute__((vector_size(4 * kWords)));
  const Wide product = __builtin_convertvector(a, Wide) * __builtin_convertvector(b, Wide);
  return __builtin_convertvector(product >> 16, Words);
#endif
}

inline F8 load_f8(const uint8_t* from) {
#if defined(__AVX2__)
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return __builtin_convertvector((I8)_mm256_cvtepu8_epi32(bytes), F8);
#elif defined(__SSE2__)
  const __m128i zero = _mm_setzero_si128();
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  const __m128i words = _mm_unpacklo_epi8(bytes, zero);
  const __m128 halves[2] = {_mm_cvtepi32_ps(_mm_unpacklo_epi16(words, zero)),
                            _mm_cvtepi32_ps(_mm_unpackhi_epi16(words, zero))};
  return bits_as<F8>(halves);
#else
  return __builtin_convertvector(load<B8>(from), F8);
#endif
}

#if defined(__AVX2__)
inline F4 lower(F8 value) { return (F4)_mm256_castps256_ps128((__m256)value); }
inline F4 upper(F8 value) { return (F4)_mm256_extractf128_ps((__m256)value, 1); }
#else
inline F4 lower(F8 value) { return F4{value[0], value[1], value[2], value[3]}; }
inline F4 upper(F8 value) { return F4{value[4], value[5], value[6], value[7]}; }
#endif

// Four channels within 0..255 rounded to nearest, as bytes.
inline B4 round_pixel(F4 value) {
  const I4 level = __builtin_convertvector(value + 0.5f, I4);
#if defined(__SSE2__)
  const __m128i words = _mm_packs_epi32((__m128i)level, (__m128i)level);
  return bits_as<B4>(_mm_cvtsi128_si32(_mm_packus_epi16(words, words)));
#else
  return __builtin_convertvector(level, B4);
#endif
}

// An RGB pixel, and one byte more that the next pixel overwrites.
inline void store_pixel(B4 pixel, uint8_t* out) { memcpy(out, &pixel, 4); }
inline void store_last_pixel(B4 pixel, uint8_t* out) { memcpy(out, &pixel, 3); }

}  // namespace
}  // namespace melfast::MELFAST_NAMESPACE
