#include "colour.h"

#include <array>
#include <cmath>

#include "dispatch.h"
#include "retouch.h"
#include "scratch.h"

namespace melfast {
namespace {

// sRGB decoding of IEC 61966-2-1: linear light in 0..1 of a level in 0..255.
double light_of(double level) {
  const double v = level / 255;
  return v > 0.04045 ? std::pow((v + 0.055) / 1.055, 2.4) : v / 12.92;
}

const float* linear_table() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> linear{};
    for (size_t level = 0; level < linear.size(); ++level)
      linear[level] = static_cast<float>(light_of(static_cast<double>(level)));
    return linear;
  }();
  return table.data();
}

const SrgbTable& srgb_table() {
  static const SrgbTable table = [] {
    SrgbTable made{};
    for (int level = 0; level < 256; ++level)
      made.threshold[level] = static_cast<float>(light_of(level + 0.5));
    made.threshold[255] = 2;  // no colour is lighter than white
    int level = 0;
    for (int bin = 0; bin <= kLightBins; ++bin) {
      const float begin = static_cast<float>(bin) / kLightBins;
      while (begin >= made.threshold[level]) ++level;
      made.guess[bin] = static_cast<uint8_t>(level);
    }
    return made;
  }();
  return table;
}

const float kOnes[3] = {1, 1, 1}, kZeros[3] = {0, 0, 0};

}  // namespace

Normalizer::Normalizer(const Normalization& how, Element element, ptrdiff_t width)
    : colour_(how.colour), element_(element), width_(width) {
  const double unit = colour_ == Colour::kRgb ? 1 / 255.0 : 1;
  for (int c = 0; c < 3; ++c) {
    scale_[c] = static_cast<float>(unit / how.std[c]);
    offset_[c] = static_cast<float>(-how.mean[c] / how.std[c]);
  }
}

void Normalizer::row(const uint8_t* rgb, void* out) const {
  const bool half = element_ == Element::kF16;
  float* values = half ? grow(scratch().values, 3 * width_) : static_cast<float*>(out);
  if (colour_ == Colour::kRgb)
    rows().rgb_row(rgb, width_, scale_, offset_, values);
  else
    rows().lab_row(rgb, width_, linear_table(), scale_, offset_, values);
  if (half) rows().to_half(values, 3 * width_, static_cast<uint16_t*>(out));
}

void srgb_to_lab(const Pixels& rgb, float* lab) {
  PixelReader<uint8_t> reader(rgb);
  ptrdiff_t count = 0;
  for (const uint8_t* in = reader.next(&count); count; lab += 3 * count, in = reader.next(&count))
    rows().lab_row(in, count, linear_table(), kOnes, kZeros, lab);
}

void lab_to_srgb(const Pixels& lab, uint8_t* rgb) {
  PixelReader<float> reader(lab);
  ptrdiff_t count = 0;
  for (const float* in = reader.next(&count); count; rgb += 3 * count, in = reader.next(&count))
    rows().srgb_row(in, count, srgb_table(), rgb);
}

void shift_lab(const Image& image, const Weights& weights, const float* offset, const Output& out) {
  uint8_t* row = grow(scratch().rows, 3 * out.width);
  float* lab = grow(scratch().values, 3 * out.width);
  for (ptrdiff_t y = 0; y < out.height; ++y) {
    copy_row(image, y, row);
    rows().lab_row(row, out.width, linear_table(), kOnes, kZeros, lab);
    const uint8_t* weight = weights.data + y * weights.row_stride;
    for (ptrdiff_t x = 0; x < out.width; ++x, weight += weights.pixel_stride) {
      const float share = static_cast<float>(*weight) / 255;
      for (ptrdiff_t c = 0; c < 3; ++c) lab[3 * x + c] += share * offset[c];
    }
    rows().srgb_row(lab, out.width, srgb_table(), out.row(y));
  }
}

void apply_curves(const Image& image, const Weights& weights, const uint8_t* curves,
                  const Output& out) {
  uint8_t* row = grow(scratch().rows, 3 * out.width);
  for (ptrdiff_t y = 0; y < out.height; ++y) {
    copy_row(image, y, row);
    const uint8_t* weight = weights.data + y * weights.row_stride;
    uint8_t* to = out.row(y);
    for (ptrdiff_t x = 0; x < out.width; ++x, weight += weights.pixel_stride)
      curve_pixel(curves, *weight, row + 3 * x, to + 3 * x);
  }
}

void normalize(const Image& image, const Normalization& how, const Output& out) {
  const Normalizer normalizer(how, out.element, out.width);
  uint8_t* row = grow(scratch().rows, 3 * out.width);
  for (ptrdiff_t y = 0; y < out.height; ++y) {
    copy_row(image, y, row);
    normalizer.row(row, out.row(y));
  }
}

}  // namespace melfast
