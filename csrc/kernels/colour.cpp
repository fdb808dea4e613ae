#include "colour.h"

#include <array>
#include <cmath>

#include "dispatch.h"
#include "scratch.h"

namespace melfast {
namespace {

// sRGB decoding of IEC 61966-2-1: linear light in 0..1 of each level.
const float* linear_table() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> linear{};
    for (size_t level = 0; level < linear.size(); ++level) {
      const double v = static_cast<double>(level) / 255;
      linear[level] =
          static_cast<float>(v > 0.04045 ? std::pow((v + 0.055) / 1.055, 2.4) : v / 12.92);
    }
    return linear;
  }();
  return table.data();
}

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

void srgb_to_lab(const uint8_t* rgb, ptrdiff_t count, float* lab) {
  const float scale[3] = {1, 1, 1}, offset[3] = {0, 0, 0};
  rows().lab_row(rgb, count, linear_table(), scale, offset, lab);
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
