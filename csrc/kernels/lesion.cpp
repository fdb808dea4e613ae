#include "lesion.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace melfast {
namespace {

// Chosen on HAM10000 images that are not among those the tests measure with, for a longer side of
// kLesionSide; the intersection over union is flat around all of them.
constexpr ptrdiff_t kHairRadius = 2;     // dark and bright lines up to 4 pixels wide vanish
constexpr int kSmoothing = 3;            // passes of (1 2 1) / 4
constexpr ptrdiff_t kRing = 2;           // width of the rings on both sides of a border
constexpr double kLeastVisible = 0.05;   // of the picture, to look for a lesion at all
constexpr double kLeastLesion = 0.0005;  // of the picture
constexpr double kMostFilled = 0.8;  // of the visible area, covered by a lesion; more is unlikely
constexpr double kDarkerLevels[] = {0, 0.25, 0.5};  // thresholds, from Otsu's towards the skin
constexpr int kShadingRounds = 2;

// Otsu 1979: the level that divides the histogram into the two most different classes, and their
// means; values up to the level are the darker class.
struct Split {
  int level = 0;
  double dark = 0, bright = 0;
};

Split otsu(const Raster& values, const Raster& visible) {
  std::array<ptrdiff_t, 256> histogram{};
  for (ptrdiff_t i = 0; i < values.size(); ++i)
    if (visible[i]) ++histogram[values[i]];
  double count = 0, sum = 0;
  for (int v = 0; v < 256; ++v) {
    count += static_cast<double>(histogram[static_cast<size_t>(v)]);
    sum += static_cast<double>(histogram[static_cast<size_t>(v)]) * v;
  }
  Split best;
  double most = -1, below = 0, below_sum = 0;
  for (int v = 0; v < 255; ++v) {
    below += static_cast<double>(histogram[static_cast<size_t>(v)]);
    below_sum += static_cast<double>(histogram[static_cast<size_t>(v)]) * v;
    const double above = count - below;
    if (below == 0 || above == 0) continue;
    const double dark = below_sum / below, bright = (sum - below_sum) / above;
    const double between = below * above * (bright - dark) * (bright - dark);
    if (between > most) most = between, best = {v, dark, bright};
  }
  return best;
}

Raster at_most(const Raster& values, double level, const Raster& visible) {
  const auto highest = static_cast<uint8_t>(level);
  return map([=](uint8_t value, uint8_t seen) { return seen & (value <= highest); }, values,
             visible);
}

// How central each pixel is, 1 in the middle of the picture and 1/9 in the middle of its sides,
// summed along each row, so that the weight of a run of pixels is the difference of two sums.
class Centrality {
 public:
  Centrality(ptrdiff_t height, ptrdiff_t width) : stride_(width + 1) {
    sums_.reserve(static_cast<size_t>(height * stride_));
    for (ptrdiff_t y = 0; y < height; ++y) {
      const double v = (2 * static_cast<double>(y) + 1) / static_cast<double>(height) - 1;
      double sum = 0;
      sums_.push_back(0);
      for (ptrdiff_t x = 0; x < width; ++x) {
        const double u = (2 * static_cast<double>(x) + 1) / static_cast<double>(width) - 1;
        const double weight = 1 / (1 + 2 * (u * u + v * v));
        sums_.push_back(sum += weight * weight);
      }
    }
  }

  double of(const Components::Run& run) const {
    const double* sums = sums_.data() + run.y * stride_;
    return sums[run.end] - sums[run.begin];
  }

 private:
  ptrdiff_t stride_;
  std::vector<double> sums_;
};

// The part with the largest weight, filled; its size is 0 if there is none.
Shape heaviest_part(const Raster& mask, const Centrality& weights) {
  const Components found = components_of(mask);
  if (found.parts.empty()) return {Raster(mask.height, mask.width, 0), {}};
  std::vector<double> total(found.parts.size());
  for (const Components::Run& run : found.runs)
    total[static_cast<size_t>(run.label)] += weights.of(run);
  const auto best = std::max_element(total.begin(), total.end()) - total.begin();
  return filled(found, static_cast<int32_t>(best), mask.height, mask.width);
}

// Least squares of a surface of second degree through every other value of every other row, where
// `used`; false where they do not determine one.
bool fit_surface(const Raster& values, const Raster& used, double* surface) {
  constexpr int n = 6;
  double a[n][n + 1] = {};
  for (ptrdiff_t y = 0; y < values.height; y += 2) {
    const double v = 2 * static_cast<double>(y) / static_cast<double>(values.height) - 1;
    for (ptrdiff_t x = 0; x < values.width; x += 2) {
      const ptrdiff_t i = y * values.width + x;
      if (!used[i]) continue;
      const double u = 2 * static_cast<double>(x) / static_cast<double>(values.width) - 1;
      const double term[n + 1] = {1, u, v, u * u, v * v, u * v, static_cast<double>(values[i])};
      for (int r = 0; r < n; ++r)
        for (int c = r; c <= n; ++c) a[r][c] += term[r] * term[c];
    }
  }
  for (int r = 0; r < n; ++r)
    for (int c = 0; c < r; ++c) a[r][c] = a[c][r];
  // Gaussian elimination without pivoting, because the matrix is symmetric and positive definite.
  for (int r = 0; r < n; ++r) {
    if (a[r][r] < 1e-6) return false;
    for (int below = r + 1; below < n; ++below) {
      const double factor = a[below][r] / a[r][r];
      for (int c = r; c <= n; ++c) a[below][c] -= factor * a[r][c];
    }
  }
  for (int r = n - 1; r >= 0; --r) {
    double rest = a[r][n];
    for (int c = r + 1; c < n; ++c) rest -= a[r][c] * surface[c];
    surface[r] = rest / a[r][r];
  }
  return true;
}

// The values less the surface, the skin at 200: lesions are darker by up to 200 levels.
Raster without_surface(const Raster& values, const double* s) {
  Raster flat(values.height, values.width);
  for (ptrdiff_t y = 0; y < values.height; ++y) {
    const double v = 2 * static_cast<double>(y) / static_cast<double>(values.height) - 1;
    const auto base = static_cast<float>(s[0] + s[2] * v + s[4] * v * v - 200.5);
    const auto slope = static_cast<float>(s[1] + s[5] * v), bend = static_cast<float>(s[3]);
    const float step = 2 / static_cast<float>(values.width);
    const uint8_t* in = values.row(y);
    uint8_t* __restrict out = flat.row(y);
    for (ptrdiff_t x = 0; x < values.width; ++x) {
      const float u = step * static_cast<float>(x) - 1;
      const float rest = static_cast<float>(in[x]) - (base + (slope + bend * u) * u);
      out[x] = static_cast<uint8_t>(rest < 0 ? 0 : rest > 255 ? 255 : rest);
    }
  }
  return flat;
}

// Removes the shading of the skin: the surface is fitted around the apparent lesion,
// twice.
Raster flattened(const Raster& values, const Raster& visible, const Centrality& weights) {
  Raster flat = values;
  for (int round = 0; round < kShadingRounds; ++round) {
    const Raster dark = at_most(flat, otsu(flat, visible).level, visible);
    const Raster lesion = dilate(heaviest_part(dark, weights).mask, 2 * kRing);
    const Raster skin =
        map([](uint8_t seen, uint8_t inside) { return seen & (inside ^ 1); }, visible, lesion);
    const ptrdiff_t count = std::count(skin.values.begin(), skin.values.end(), 1);
    double surface[6];
    if (count < skin.size() / 10 || !fit_surface(values, skin, surface)) return flat;
    flat = without_surface(values, surface);
  }
  return flat;
}

// How much brighter the picture is just outside a shape than just inside.
double edge_contrast(const Shape& shape, const Raster& visible, const Raster& values) {
  const Raster inner = erode(shape.mask, kRing), outer = dilate(shape.mask, kRing);
  const Components::Part& part = shape.part;
  double sums[2] = {}, counts[2] = {};
  for (ptrdiff_t y = std::max<ptrdiff_t>(part.top - kRing, 0);
       y <= std::min(part.bottom + kRing, visible.height - 1); ++y) {
    for (ptrdiff_t x = std::max<ptrdiff_t>(part.left - kRing, 0);
         x <= std::min(part.right + kRing, visible.width - 1); ++x) {
      const ptrdiff_t i = y * visible.width + x;
      if (inner[i] || !outer[i]) continue;
      const bool outside = !shape.mask[i];
      if (outside && !visible[i]) continue;
      sums[outside] += values[i];
      counts[outside] += 1;
    }
  }
  return counts[0] > 0 && counts[1] > 0 ? sums[1] / counts[1] - sums[0] / counts[0] : 0;
}

// How much a shape resembles a lesion; the weights were chosen together with the constants above.
double score(const Shape& shape, const Raster& visible, const Raster& values) {
  const ptrdiff_t height = visible.height, width = visible.width;
  const Components::Part& part = shape.part;
  int64_t sy = 0, sx = 0, syy = 0, sxx = 0, sxy = 0, on_edge = 0;
  for (ptrdiff_t y = part.top; y <= part.bottom; ++y) {
    for (ptrdiff_t x = part.left; x <= part.right; ++x) {
      if (!shape.mask[y * width + x]) continue;
      sy += y, sx += x, syy += y * y, sxx += x * x, sxy += x * y;
      on_edge += y == 0 || x == 0 || y == height - 1 || x == width - 1;
    }
  }
  const auto n = static_cast<double>(part.size);
  const auto mean = [n](int64_t sum) { return static_cast<double>(sum) / n; };
  const double cy = mean(sy), cx = mean(sx), covariance = mean(sxy) - cx * cy;
  const double vy = mean(syy) - cy * cy + 1 / 12.0, vx = mean(sxx) - cx * cx + 1 / 12.0;
  // 1 for an ellipse: its area against that of the ellipse with the same second moments.
  const double compactness =
      n / (4 * 3.14159265358979 * std::sqrt(std::max(vy * vx - covariance * covariance, 1e-9)));
  const double right = (cx + 0.5) / static_cast<double>(width) - 0.5;
  const double down = (cy + 0.5) / static_cast<double>(height) - 0.5;
  const double off_centre = std::sqrt(right * right + down * down);
  const double touching = static_cast<double>(on_edge) /
                          static_cast<double>(std::max<ptrdiff_t>(2 * (height + width) - 4, 1));
  const double edge = std::max(edge_contrast(shape, visible, values), 0.0);
  return compactness + 0.75 * edge / (edge + 15) - 0.2 * touching - 0.5 * off_centre;
}

}  // namespace

Lesion find_lesion(const Raster& green_channel, const Raster& blue_channel,
                   const Raster& excluded) {
  const ptrdiff_t height = excluded.height, width = excluded.width;
  const Raster visible = map([](uint8_t out) { return out == 0; }, excluded);
  const auto count =
      static_cast<double>(std::count(visible.values.begin(), visible.values.end(), 1));
  const auto area = static_cast<double>(visible.size());
  Lesion best{Raster(height, width, 0), Raster(height, width, 0)};
  if (count < kLeastVisible * area) return best;

  const Centrality weights(height, width);
  const auto smooth = [](const Raster& channel) {
    return blur(open(close(channel, kHairRadius), kHairRadius), kSmoothing);
  };
  const Raster green = smooth(green_channel), blue = smooth(blue_channel);
  const Raster both = map([](int a, int b) { return (a + b + 1) / 2; }, green, blue);
  double most = -1e9;
  for (const Raster& values :
       {blue, both, flattened(blue, visible, weights), flattened(both, visible, weights)}) {
    const Split split = otsu(values, visible);
    for (const double darker : kDarkerLevels) {
      const double level = split.level + darker * (split.bright - split.level);
      const Raster dark = at_most(values, level, visible);
      Shape shape = heaviest_part(open(dark, 1), weights);
      if (static_cast<double>(shape.part.size) < kLeastLesion * area + 1) continue;
      const double part = static_cast<double>(shape.part.size) / count;
      const double found =
          score(shape, visible, both) + 0.1 * darker - 5 * std::max(part - kMostFilled, 0.0);
      if (found > most) most = found, best = {std::move(shape.mask), dark};
    }
  }
  best.mask = dilate(best.mask, 1);  // experts draw around the border, not on it
  return best;
}

}  // namespace melfast
