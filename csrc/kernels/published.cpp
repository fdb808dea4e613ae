// Works on a few rows at a time, so that the output of a step is in the cache when the next one
// reads it:
//
//   1. CLAHE of OpenCV's 8-bit L, clip limit 2, 8 x 8 tiles; back to RGB.
//   2. Hair: grey, black-hat by the cross of 9 x 9, 3 x 3 blur with sigma 4, above 20.
//   3. Lesion: the largest channel, 0 where hair is, 5 x 5 blur, Otsu's threshold.
//   4. The lesion opened, dilated and closed, each 5 times by the cross of 3 x 3.
//   5. The mask is either.
//
// A first pass over the image counts lightness for CLAHE, a second does the rest up to the blurred
// channel, which is stored in the mask itself until the threshold is known. In addition to the
// mask, this takes two bits per pixel and some rows.
//
// CLAHE mixes rows of tiles before columns, once per row; only where that might change the rounding
// of a tie, it uses OpenCV's order, the reverse: ties are frequent in small images, and a few
// pixels may move Otsu's threshold.
#include "published.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "bits.h"
#include "dispatch.h"
#include "scratch.h"

namespace melfast {
namespace {

constexpr ptrdiff_t kTiles = 8;
constexpr int kLevels = 256;
constexpr float kClipLimit = 2;
constexpr int kIterations = 5;

// One channel's share of X, Y and Z, see LabTables. `xyz` is times 2^12.
void share(const int (&xyz)[3], uint32_t rounding, uint32_t (*to)[4]) {
  for (int i = 0; i < kLevels; ++i) {
    const double level = i / 255.0;
    const auto linear = static_cast<uint32_t>(std::lrint(
        2040 * (level <= 0.04045 ? level / 12.92 : std::pow((level + 0.055) / 1.055, 2.4))));
    for (int c = 0; c < 3; ++c) to[i][c] = linear * static_cast<uint32_t>(xyz[c]) + rounding;
  }
}

LabTables make_tables() {
  LabTables tables{};
  share({1777, 871, 73}, 1 << 11, tables.red);
  share({1541, 2929, 448}, 0, tables.green);
  share({778, 296, 3575}, 0, tables.blue);
  for (int i = 0; i < kLuminances; ++i) {
    // The root of the number after rounding to float32, as in OpenCV; the root itself is not
    // rounded to float32, which would change a tie.
    const auto t = static_cast<double>((1 / 2040.0f) * static_cast<float>(i));
    const double root = t < 216 / 24389.0 ? t * (841 / 108.0) + 16 / 116.0 : std::cbrt(t);
    tables.root[i] = static_cast<uint16_t>(std::lrint(32768 * root));
    tables.lightness[i] = static_cast<uint8_t>((296 * tables.root[i] - 1336934 + (1 << 14)) >> 15);
  }
  for (int i = 0; i < 4096; ++i) {
    const double linear = i / 4096.0;
    tables.encoded[i] = static_cast<uint8_t>(std::lrint(
        255 * (linear <= 0.0031308 ? linear * 12.92 : 1.055 * std::pow(linear, 1 / 2.4) - 0.055)));
  }
  return tables;
}

const LabTables& lab_tables() {
  static const LabTables tables = make_tables();
  return tables;
}

// The pixel that replaces one outside: the image is mirrored at its edge, which is not repeated.
ptrdiff_t mirrored(ptrdiff_t i, ptrdiff_t size) {
  if (size == 1) return 0;
  const ptrdiff_t period = 2 * (size - 1);
  i = std::abs(i) % period;
  return i < size ? i : period - i;
}

// n pixels of a row, adjacent.
const uint8_t* pixels(const Image& image, ptrdiff_t y, ptrdiff_t x, ptrdiff_t n) {
  const uint8_t* in = image.row(y) + x * image.pixel_stride;
  if (image.pixel_stride == 3) return in;
  uint8_t* copy = grow(scratch().rows, 3 * n);
  for (ptrdiff_t i = 0; i < n; ++i) std::memcpy(copy + 3 * i, in + i * image.pixel_stride, 3);
  return copy;
}

using Histogram = std::array<int, kLevels>;

// Contrast-limited adaptive histogram equalisation of one image's lightness.
class Clahe {
 public:
  explicit Clahe(const Image& image);

  // Row y as grey and as its pixels' largest channels.
  void row(ptrdiff_t y, uint8_t* grey, uint8_t* value);

 private:
  Histogram count(ptrdiff_t tile_y, ptrdiff_t tile_x) const;
  void equalize(Histogram counts, uint8_t* levels) const;
  void mix_levels(ptrdiff_t y);
  // The tiles on both sides of the columns before the centre of `tile`.
  static ptrdiff_t left_of(ptrdiff_t tile) { return std::max<ptrdiff_t>(tile - 1, 0); }
  static ptrdiff_t right_of(ptrdiff_t tile) { return std::min(tile, kTiles - 1); }
  // Where the columns end that have the centre of `tile` on their right.
  ptrdiff_t end_of(ptrdiff_t tile) const {
    return std::min(((2 * tile + 1) * tile_width_ + 1) / 2, image_.width);
  }

  const Image& image_;
  ptrdiff_t tile_height_, tile_width_;
  uint8_t levels_[kTiles][kTiles][kLevels];
  // For the current row: the levels of the tiles above and below, their weights, and the mixture.
  const uint8_t (*above_)[kLevels];
  const uint8_t (*below_)[kLevels];
  float up_, down_;
  Between mixed_[kTiles + 1][kLevels];
  std::vector<Between> weights_;
};

Clahe::Clahe(const Image& image)
    : image_(image), weights_(static_cast<size_t>(image.width + kMaskPadding)) {
  // Like OpenCV: if either side is not divisible, both grow, even by a whole 8.
  const bool whole = image.height % kTiles == 0 && image.width % kTiles == 0;
  tile_height_ = image.height / kTiles + (whole ? 0 : 1);
  tile_width_ = image.width / kTiles + (whole ? 0 : 1);
  for (ptrdiff_t y = 0; y < kTiles; ++y)
    for (ptrdiff_t x = 0; x < kTiles; ++x) equalize(count(y, x), levels_[y][x]);
  const float per_tile = 1.0f / static_cast<float>(tile_width_);
  for (ptrdiff_t tile = 0, x = 0; tile <= kTiles; ++tile)
    for (; x < end_of(tile); ++x) {
      const float right = static_cast<float>(x) * per_tile - 0.5f - static_cast<float>(tile - 1);
      weights_[static_cast<size_t>(x)] = {1 - right, right};
    }
}

Histogram Clahe::count(ptrdiff_t tile_y, ptrdiff_t tile_x) const {
  uint32_t counts[kCounters * kLuminances] = {};
  const ptrdiff_t left = tile_x * tile_width_, right = left + tile_width_;
  const ptrdiff_t inside = std::min(right, image_.width) - left;
  for (ptrdiff_t i = 0; i < tile_height_; ++i) {
    const ptrdiff_t y = mirrored(tile_y * tile_height_ + i, image_.height);
    if (inside > 0)
      mask_rows().count_luminance(pixels(image_, y, left, inside), inside, lab_tables(), counts);
    for (ptrdiff_t x = std::max(left, image_.width); x < right; ++x)
      mask_rows().count_luminance(pixels(image_, y, mirrored(x, image_.width), 1), 1, lab_tables(),
                                  counts);
  }
  Histogram histogram{};
  for (size_t i = 0; i < kCounters * kLuminances; ++i)
    histogram[lab_tables().lightness[i / kCounters]] += static_cast<int>(counts[i]);
  return histogram;
}

// Clips the counts, distributes the excess over all levels, and accumulates.
void Clahe::equalize(Histogram counts, uint8_t* levels) const {
  const int total = static_cast<int>(tile_height_ * tile_width_);
  const int limit = std::max(static_cast<int>(kClipLimit * static_cast<float>(total) / kLevels), 1);
  int clipped = 0;
  for (int& count : counts) {
    clipped += std::max(count - limit, 0);
    count = std::min(count, limit);
  }
  for (int& count : counts) count += clipped / kLevels;
  int left = clipped % kLevels;
  const int step = left ? std::max(kLevels / left, 1) : 1;
  for (int i = 0; i < kLevels && left > 0; i += step, --left) ++counts[static_cast<size_t>(i)];
  const float scale = (kLevels - 1) / static_cast<float>(total);
  int sum = 0;
  for (size_t i = 0; i < kLevels; ++i) {
    sum += counts[i];
    levels[i] =
        static_cast<uint8_t>(std::clamp(std::lrint(static_cast<float>(sum) * scale), 0L, 255L));
  }
}

void Clahe::mix_levels(ptrdiff_t y) {
  const float at = static_cast<float>(y) * (1.0f / static_cast<float>(tile_height_)) - 0.5f;
  const auto upper = static_cast<ptrdiff_t>(std::floor(at));
  down_ = at - static_cast<float>(upper), up_ = 1 - down_;
  above_ = levels_[std::max<ptrdiff_t>(upper, 0)];
  below_ = levels_[std::min(upper + 1, kTiles - 1)];
  float mixed[kTiles][kLevels];
  for (ptrdiff_t x = 0; x < kTiles; ++x)
    for (int i = 0; i < kLevels; ++i) mixed[x][i] = above_[x][i] * up_ + below_[x][i] * down_;
  for (ptrdiff_t x = 0; x <= kTiles; ++x) {
    const float *left = mixed[left_of(x)], *right = mixed[right_of(x)];
    for (int i = 0; i < kLevels; ++i) mixed_[x][i] = {left[i], right[i]};
  }
}

void Clahe::row(ptrdiff_t y, uint8_t* grey, uint8_t* value) {
  mix_levels(y);
  ptrdiff_t x = 0;
  for (ptrdiff_t tile = 0; tile <= kTiles && x < image_.width; ++tile) {
    const ptrdiff_t end = end_of(tile);
    const ptrdiff_t left = left_of(tile), right = right_of(tile);
    const Equalized how = {mixed_[tile], weights_.data() + x, above_[left], above_[right],
                           below_[left], below_[right],       up_,          down_};
    mask_rows().equalize(pixels(image_, y, x, end - x), end - x, lab_tables(), how, grey + x,
                         value + x);
    x = end;
  }
}

// The last rows of a plane, readable beside their ends.
class Ring {
 public:
  Ring(ptrdiff_t count, ptrdiff_t width)
      : count_(count),
        stride_((width + 2 * kMaskPadding + 63) / 64 * 64),
        memory_(static_cast<size_t>(count * stride_)) {}

  uint8_t* row(ptrdiff_t y) { return memory_.data() + y % count_ * stride_ + kMaskPadding; }

 private:
  ptrdiff_t count_, stride_;
  std::vector<uint8_t> memory_;
};

// Steps 1 to 3 down the image: each plane runs as many rows behind the one before as it reads.
class Strip {
 public:
  Strip(const Image& image, Bits& hair, uint8_t* blurred);

  // Gives the counts of the levels of `blurred`.
  Histogram run();

 private:
  // Rows above and below y of a plane; `outside` stands for those that are not in the image.
  void around(Ring& plane, ptrdiff_t y, const uint8_t* outside, const uint8_t** rows) const;
  // The same with the edge as a mirror.
  void mirrored_around(Ring& plane, ptrdiff_t y, ptrdiff_t radius, const uint8_t** rows) const;
  void mirror_ends(uint8_t* row, ptrdiff_t radius) const;
  void fill_ends(uint8_t* row, uint8_t level) const;

  void equalize(ptrdiff_t y);
  void dilate(ptrdiff_t y);
  void subtract(ptrdiff_t y);
  void find_hair(ptrdiff_t y);
  void blur(ptrdiff_t y);

  const ptrdiff_t height_, width_;
  Clahe clahe_;
  Bits& hair_;
  uint8_t* blurred_;
  Ring grey_, dilated_, black_hat_, value_;
  std::vector<uint8_t> darkest_, brightest_, finished_;
  uint32_t counts_[kCounters * kLevels] = {};
};

Strip::Strip(const Image& image, Bits& hair, uint8_t* blurred)
    : height_(image.height),
      width_(image.width),
      clahe_(image),
      hair_(hair),
      blurred_(blurred),
      grey_(16, width_),
      dilated_(16, width_),
      black_hat_(4, width_),
      value_(16, width_),
      darkest_(static_cast<size_t>(width_ + 2 * kMaskPadding), 0),
      brightest_(static_cast<size_t>(width_ + 2 * kMaskPadding), 255),
      finished_(static_cast<size_t>(width_ + kMaskPadding)) {}

Histogram Strip::run() {
  constexpr ptrdiff_t kDilated = kCrossRadius, kSubtracted = kDilated + kCrossRadius;
  constexpr ptrdiff_t kHair = kSubtracted + 1, kBlurred = kHair + 2;
  const auto within = [&](ptrdiff_t y) { return y >= 0 && y < height_; };
  for (ptrdiff_t y = 0; y < height_ + kBlurred; ++y) {
    if (within(y)) equalize(y);
    if (within(y - kDilated)) dilate(y - kDilated);
    if (within(y - kSubtracted)) subtract(y - kSubtracted);
    if (within(y - kHair)) find_hair(y - kHair);
    if (within(y - kBlurred)) blur(y - kBlurred);
  }
  Histogram counts{};
  for (size_t i = 0; i < kCounters * kLevels; ++i)
    counts[i / kCounters] += static_cast<int>(counts_[i]);
  return counts;
}

void Strip::around(Ring& plane, ptrdiff_t y, const uint8_t* outside, const uint8_t** rows) const {
  for (ptrdiff_t i = 0; i < kCrossLength; ++i) {
    const ptrdiff_t at = y + i - kCrossRadius;
    rows[i] = at >= 0 && at < height_ ? plane.row(at) : outside + kMaskPadding;
  }
}

void Strip::mirrored_around(Ring& plane, ptrdiff_t y, ptrdiff_t radius,
                            const uint8_t** rows) const {
  for (ptrdiff_t i = 0; i <= 2 * radius; ++i)
    rows[i] = plane.row(mirrored(y + i - radius, height_));
}

void Strip::mirror_ends(uint8_t* row, ptrdiff_t radius) const {
  for (ptrdiff_t i = 1; i <= radius; ++i) {
    row[-i] = row[mirrored(-i, width_)];
    row[width_ - 1 + i] = row[mirrored(width_ - 1 + i, width_)];
  }
}

void Strip::fill_ends(uint8_t* row, uint8_t level) const {
  std::memset(row - kCrossRadius, level, kCrossRadius);
  std::memset(row + width_, level, kCrossRadius);
}

void Strip::equalize(ptrdiff_t y) {
  clahe_.row(y, grey_.row(y), value_.row(y));
  fill_ends(grey_.row(y), 0);
}

void Strip::dilate(ptrdiff_t y) {
  const uint8_t* rows[kCrossLength];
  around(grey_, y, darkest_.data(), rows);
  mask_rows().dilate_cross(rows, width_, dilated_.row(y));
  fill_ends(dilated_.row(y), 255);
}

void Strip::subtract(ptrdiff_t y) {
  const uint8_t* rows[kCrossLength];
  around(dilated_, y, brightest_.data(), rows);
  mask_rows().black_hat(rows, grey_.row(y), width_, black_hat_.row(y));
  mirror_ends(black_hat_.row(y), 1);
}

void Strip::find_hair(ptrdiff_t y) {
  const uint8_t* rows[3];
  mirrored_around(black_hat_, y, 1, rows);
  mask_rows().find_hair(rows, width_, hair_.row(y));
  mask_rows().clear(hair_.row(y), width_, value_.row(y));
  mirror_ends(value_.row(y), 2);
}

void Strip::blur(ptrdiff_t y) {
  const uint8_t* rows[5];
  mirrored_around(value_, y, 2, rows);
  mask_rows().blur(rows, width_, finished_.data());
  mask_rows().count_levels(finished_.data(), width_, counts_);
  std::memcpy(blurred_ + y * width_, finished_.data(), static_cast<size_t>(width_));
}

// The level that divides the counts into two with the largest variance between them (Otsu 1979);
// the first of equals.
int otsu(const Histogram& counts, ptrdiff_t total) {
  const double scale = 1 / static_cast<double>(total);
  double mean = 0;
  for (size_t i = 0; i < kLevels; ++i) mean += static_cast<double>(i) * counts[i];
  mean *= scale;
  constexpr double kLeast = 1.1920928955078125e-07;  // of a part, as OpenCV has it
  double part = 0, part_mean = 0, largest = 0;
  int best = 0;
  for (size_t i = 0; i < kLevels; ++i) {
    const double share = counts[i] * scale;
    part_mean *= part;
    part += share;
    const double rest = 1 - part;
    if (std::min(part, rest) < kLeast || std::max(part, rest) > 1 - kLeast) continue;
    part_mean = (part_mean + static_cast<double>(i) * share) / part;
    const double rest_mean = (mean - part * part_mean) / rest;
    const double variance = part * rest * (part_mean - rest_mean) * (part_mean - rest_mean);
    if (variance > largest) {
      largest = variance;
      best = static_cast<int>(i);
    }
  }
  return best;
}

}  // namespace

void published_mask(const Image& image, uint8_t* mask) {
  const ptrdiff_t height = image.height, width = image.width;
  Bits hair(height, width), lesion(height, width);
  const auto counts = Strip(image, hair, mask).run();
  const auto threshold = static_cast<uint8_t>(otsu(counts, height * width));
  for (ptrdiff_t y = 0; y < height; ++y)
    mask_rows().find_dark(mask + y * width, width, threshold, lesion.row(y));
  lesion.open(kIterations);
  lesion.dilate(kIterations);
  lesion.close(kIterations);
  for (ptrdiff_t y = 0; y < height; ++y)
    mask_rows().write_either(lesion.row(y), hair.row(y), width, mask + y * width);
}

}  // namespace melfast
