#include "filter.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace melfast {

Filter::Filter(ptrdiff_t in_size, double begin, double end, ptrdiff_t out_size)
    : out_size_(out_size) {
  const double scale = (end - begin) / static_cast<double>(out_size);
  const double support = std::max(scale, 1.0);
  const auto centre_of = [&](ptrdiff_t i) {
    return begin + (static_cast<double>(i) + 0.5) * scale;
  };
  // Pixel k counts where |k + 0.5 - centre| < support.
  const auto low_of = [&](double centre) {
    const double low = std::floor(centre - support - 0.5) + 1;
    return static_cast<ptrdiff_t>(std::max(low, 0.0));
  };
  const auto high_of = [&](double centre) {
    const double high = std::ceil(centre + support - 0.5);
    return static_cast<ptrdiff_t>(std::min(high, static_cast<double>(in_size)));
  };

  const auto inside = [&](double pixel) {
    return std::clamp(std::min(pixel + 1, end) - std::max(pixel, begin), 0.0, 1.0);
  };
  for (ptrdiff_t i = 0; i < out_size; ++i)
    count_ = std::max(count_, high_of(centre_of(i)) - low_of(centre_of(i)));
  first_.resize(static_cast<size_t>(out_size));
  weight_.resize(static_cast<size_t>(out_size * count_));
  for (ptrdiff_t i = 0; i < out_size; ++i) {
    const double centre = centre_of(i);
    const ptrdiff_t low = low_of(centre), high = high_of(centre);
    const ptrdiff_t first = std::min(low, in_size - count_);
    first_[static_cast<size_t>(i)] = static_cast<int32_t>(first);
    double* weight = weight_.data() + i * count_ + (low - first);
    double total = 0;
    for (ptrdiff_t k = low; k < high; ++k) {
      const double pixel = static_cast<double>(k);
      total += weight[k - low] = inside(pixel) * (1 - std::abs(pixel + 0.5 - centre) / support);
    }
    for (ptrdiff_t k = low; k < high; ++k) weight[k - low] /= total;
  }
}

Taps<float> Filter::taps_f32(std::vector<float>& weight) const {
  weight.assign(weight_.begin(), weight_.end());
  return {out_size_, count_, first_.data(), weight.data()};
}

TapsU16 Filter::taps_u16(int steps, std::vector<uint16_t>& weight,
                         std::vector<uint16_t>& start) const {
  weight.resize(weight_.size());
  start.resize(first_.size());
  for (ptrdiff_t i = 0; i < out_size_; ++i) {
    const double* exact = weight_.data() + i * count_;
    uint16_t* rounded = weight.data() + i * count_;
    ptrdiff_t largest = 0;
    int rest = 65536;
    for (ptrdiff_t k = 0; k < count_; ++k) {
      if (exact[k] > exact[largest]) largest = k;
      rounded[k] = static_cast<uint16_t>(std::min(static_cast<int>(exact[k] * 65536 + 0.5), 65535));
      rest -= rounded[k];
    }
    const int mended = rounded[largest] + rest;
    rounded[largest] = static_cast<uint16_t>(std::min(mended, 65535));

    // The products are multiples of gcd(weight, whole) / whole, in 1/256 of a level. Rounding down
    // drops any remainder alike, on average half of the largest.
    const int whole = 256 * steps;
    double lost = 0.5 * (mended - rounded[largest]);
    for (ptrdiff_t k = 0; k < count_; ++k)
      lost += 0.5 * (1 - static_cast<double>(std::gcd<int>(rounded[k], whole)) / whole);
    start[static_cast<size_t>(i)] = static_cast<uint16_t>(lost + 0.5);
  }
  return {{out_size_, count_, first_.data(), weight.data()}, start.data()};
}

}  // namespace melfast
