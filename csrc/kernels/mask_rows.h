// The inner loops of published_mask, one row at a time; compiled once per instruction set like
// rows.cpp, with the same bits from each.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace melfast {

// Rows of scratch begin this far into their memory, and may be read and written as far past their
// end.
inline constexpr ptrdiff_t kMaskPadding = 64;

// Half the length of the black-hat's cross.
inline constexpr int kCrossRadius = 4;
inline constexpr int kCrossLength = 2 * kCrossRadius + 1;

// Y in steps of 1/2040.
inline constexpr int kLuminances = 2041;

// Several counters per level, used in turn by neighbouring pixels, because adding to a value just
// written is slow.
inline constexpr int kCounters = 2;

// The tables of OpenCV's 8-bit CIELAB. X, Y and Z are relative to the white of D65, 2 degrees;
// their places in the tables are in steps of 1/2040.
struct LabTables {
  // Each channel's share of X, Y and Z times 2^12; red's rounds the sum.
  alignas(16) uint32_t red[256][4], green[256][4], blue[256][4];
  uint16_t root[2048];      // the curve of CIELAB times 2^15
  uint8_t lightness[2048];  // 8-bit L of a Y
  uint8_t encoded[4096];    // sRGB encoding, of 0..1 in steps of 1/4096
};

// Equalised lightness of the tiles on the left and on the right, between those above and below.
struct Between {
  float left, right;
};

// Columns of a row that lie between the same four tile centres.
struct Equalized {
  const Between* levels;   // of each 8-bit lightness
  const Between* weights;  // of each pixel
  // What `levels` is made of: each tile's levels, and the weights of those above and below.
  const uint8_t *above_left, *above_right, *below_left, *below_right;
  float up, down;
};

struct MaskRows {
  // Counts the places of Y of n RGB pixels, kLuminances of them; see kCounters.
  void (*count_luminance)(const uint8_t* rgb, ptrdiff_t n, const LabTables& tables,
                          uint32_t* counts);
  // n RGB pixels with their lightness equalised: as grey, and the largest of their channels.
  void (*equalize)(const uint8_t* rgb, ptrdiff_t n, const LabTables& tables, const Equalized& how,
                   uint8_t* grey, uint8_t* value);
  // The extreme of a cross of kCrossLength: `rows` are those above and below the middle one, which
  // is readable kCrossRadius to either side.
  void (*dilate_cross)(const uint8_t* const* rows, ptrdiff_t n, uint8_t* out);
  // The same of the least, less `grey`.
  void (*black_hat)(const uint8_t* const* rows, const uint8_t* grey, ptrdiff_t n, uint8_t* out);
  // Bits of what is above 20 after a 3x3 blur; rows readable 1 to either side.
  void (*find_hair)(const uint8_t* const* rows, ptrdiff_t n, uint64_t* bits);
  // 0 where a bit is set.
  void (*clear)(const uint64_t* bits, ptrdiff_t n, uint8_t* value);
  // 5x5 binomial blur; rows readable 2 to either side.
  void (*blur)(const uint8_t* const* rows, ptrdiff_t n, uint8_t* out);
  // Counts the levels of n bytes; see kCounters.
  void (*count_levels)(const uint8_t* value, ptrdiff_t n, uint32_t* counts);
  // Bits of what is at most `threshold`; 0 in the rest of the last word.
  void (*find_dark)(const uint8_t* value, ptrdiff_t n, uint8_t threshold, uint64_t* bits);
  // Any or all of a bit's cross of 3x3; `middle` is readable a word to either side.
  void (*any_of_cross)(const uint64_t* above, const uint64_t* middle, const uint64_t* below,
                       ptrdiff_t words, uint64_t* out);
  void (*all_of_cross)(const uint64_t* above, const uint64_t* middle, const uint64_t* below,
                       ptrdiff_t words, uint64_t* out);
  // 255 where either has a bit, else 0.
  void (*write_either)(const uint64_t* a, const uint64_t* b, ptrdiff_t n, uint8_t* out);
};

namespace baseline {
extern const MaskRows kMaskRows;
}
namespace avx2 {
extern const MaskRows kMaskRows;
}
namespace avx512 {
extern const MaskRows kMaskRows;
}

}  // namespace melfast
