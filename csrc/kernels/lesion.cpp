#include "lesion.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace melfast {
namespace {

// Chosen on HAM10000 images that are not among those the tests measure with, for a longer side of
// kLesionSide; the intersection over union is flat around all of them.
constexpr ptrdiff_t kHairRadius = 2;     // closing: darker lines up to 4 pixels wide vanish
constexpr int kSmoothing = 3;            // passes of (1 2 1) / 4
constexpr ptrdiff_t kRing = 2;           // width of the rings on both sides of a border
constexpr double kLeastVisible = 0.05;   // of the picture, to look for a lesion at all
constexpr double kLeastLesion = 0.0005;  // of the picture
constexpr double kDarkerLevels[] = {0, 0.25, 0.5};  // thresholds, from Otsu's towards the skin
constexpr int kShadingRounds = 2;

// Otsu 1979: the level that parts the histogram into the two most different classes, and their
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
  Raster mask(values.height, values.width);
  for (ptrdiff_t i = 0; i < values.size(); ++i) mask[i] = visible[i] && values[i] <= level;
  return mask;
}

// Falls from 1 in the centre of the picture to 1/9 in the middle of its sides' ends.
double centrality(ptrdiff_t y, ptrdiff_t x, ptrdiff_t height, ptrdiff_t width) {
  const double v = (2 * static_cast<double>(y) + 1) / static_cast<double>(height) - 1;
  const double u = (2 * static_cast<double>(x) + 1) / static_cast<double>(width) - 1;
  const double weight = 1 / (1 + 2 * (u * u + v * v));
  return weight * weight;
}

// The component that weighs most by centrality, filled; empty where there is none.
Raster central_part(const Raster& mask) {
  const Components found = components_of(mask);
  std::vector<double> weight(found.parts.size());
  for (ptrdiff_t y = 0, i = 0; y < mask.height; ++y)
    for (ptrdiff_t x = 0; x < mask.width; ++x, ++i)
      if (const int32_t label = found.label[static_cast<size_t>(i)]; label >= 0)
        weight[static_cast<size_t>(label)] += centrality(y, x, mask.height, mask.width);
  const auto best =
      static_cast<int32_t>(std::max_element(weight.begin(), weight.end()) - weight.begin());
  Raster part(mask.height, mask.width);
  if (weight.empty()) return part;
  for (ptrdiff_t i = 0; i < mask.size(); ++i) part[i] = found.label[static_cast<size_t>(i)] == best;
  fill_holes(part);
  return part;
}

// Least squares of a surface of second degree through the values where `used`; false where they do
// not determine one.
bool fit_surface(const Raster& values, const Raster& used, double* surface) {
  constexpr int n = 6;
  double a[n][n + 1] = {};
  for (ptrdiff_t y = 0, i = 0; y < values.height; ++y) {
    const double v = 2 * static_cast<double>(y) / static_cast<double>(values.height) - 1;
    for (ptrdiff_t x = 0; x < values.width; ++x, ++i) {
      if (!used[i]) continue;
      const double u = 2 * static_cast<double>(x) / static_cast<double>(values.width) - 1;
      const double term[n + 1] = {1, u, v, u * u, v * v, u * v, static_cast<double>(values[i])};
      for (int r = 0; r < n; ++r)
        for (int c = r; c <= n; ++c) a[r][c] += term[r] * term[c];
    }
  }
  for (int r = 0; r < n; ++r)
    for (int c = 0; c < r; ++c) a[r][c] = a[c][r];
  // Gauss elimination; the matrix is symmetric and positive, so that no pivot need be sought.
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
  for (ptrdiff_t y = 0, i = 0; y < values.height; ++y) {
    const double v = 2 * static_cast<double>(y) / static_cast<double>(values.height) - 1;
    for (ptrdiff_t x = 0; x < values.width; ++x, ++i) {
      const double u = 2 * static_cast<double>(x) / static_cast<double>(values.width) - 1;
      const double skin = s[0] + s[1] * u + s[2] * v + s[3] * u * u + s[4] * v * v + s[5] * u * v;
      flat[i] = static_cast<uint8_t>(std::clamp(values[i] - skin + 200.5, 0.0, 255.0));
    }
  }
  return flat;
}

// Takes the shading of the skin off: the surface is fitted around what seems to be the lesion,
// twice.
Raster flattened(const Raster& values, const Raster& visible) {
  Raster flat = values;
  for (int round = 0; round < kShadingRounds; ++round) {
    const Raster lesion =
        dilate(central_part(at_most(flat, otsu(flat, visible).level, visible)), 2 * kRing);
    Raster skin = visible;
    ptrdiff_t count = 0;
    for (ptrdiff_t i = 0; i < skin.size(); ++i) count += skin[i] = skin[i] && !lesion[i];
    double surface[6];
    if (count < skin.size() / 10 || !fit_surface(values, skin, surface)) return flat;
    flat = without_surface(values, surface);
  }
  return flat;
}

// How much brighter it is just outside of a shape than just inside, mean of green and blue.
double edge_contrast(const Raster& shape, const Raster& visible, const Raster& green,
                     const Raster& blue) {
  const Raster inner = erode(shape, kRing), outer = dilate(shape, kRing);
  double sums[2] = {}, counts[2] = {};
  for (ptrdiff_t i = 0; i < shape.size(); ++i) {
    const bool inside = shape[i] && !inner[i], outside = outer[i] && !shape[i] && visible[i];
    if (!inside && !outside) continue;
    sums[outside] += 0.5 * (green[i] + blue[i]);
    counts[outside] += 1;
  }
  return counts[0] && counts[1] ? sums[1] / counts[1] - sums[0] / counts[0] : 0;
}

// How much a shape is like a lesion; the weights were chosen with the constants above.
double score(const Raster& shape, const Raster& visible, const Raster& green, const Raster& blue) {
  const ptrdiff_t height = shape.height, width = shape.width;
  double n = 0, sy = 0, sx = 0, syy = 0, sxx = 0, sxy = 0, on_edge = 0;
  for (ptrdiff_t y = 0, i = 0; y < height; ++y) {
    for (ptrdiff_t x = 0; x < width; ++x, ++i) {
      if (!shape[i]) continue;
      const auto v = static_cast<double>(y), u = static_cast<double>(x);
      n += 1, sy += v, sx += u, syy += v * v, sxx += u * u, sxy += u * v;
      on_edge += y == 0 || x == 0 || y == height - 1 || x == width - 1;
    }
  }
  const double cy = sy / n, cx = sx / n;
  const double vy = syy / n - cy * cy + 1 / 12.0, vx = sxx / n - cx * cx + 1 / 12.0;
  const double covariance = sxy / n - cx * cy;
  // 1 for an ellipse: its area against that of the ellipse with the same second moments.
  const double compactness =
      n / (4 * 3.14159265358979 * std::sqrt(std::max(vy * vx - covariance * covariance, 1e-9)));
  const double off_centre = std::hypot((cx + 0.5) / static_cast<double>(width) - 0.5,
                                       (cy + 0.5) / static_cast<double>(height) - 0.5);
  const double touching = on_edge / static_cast<double>(2 * (height + width) - 4);
  const double edge = std::max(edge_contrast(shape, visible, green, blue), 0.0);
  return compactness + 0.75 * edge / (edge + 15) - 0.2 * touching - 0.5 * off_centre;
}

}  // namespace

Lesion find_lesion(const Raster& red, const Raster& green_channel, const Raster& blue_channel,
                   const Raster& excluded) {
  (void)red;
  const ptrdiff_t height = excluded.height, width = excluded.width;
  Raster visible(height, width);
  ptrdiff_t count = 0;
  for (ptrdiff_t i = 0; i < visible.size(); ++i) count += visible[i] = !excluded[i];
  Lesion best{Raster(height, width), Raster(height, width)};
  if (static_cast<double>(count) < kLeastVisible * static_cast<double>(visible.size())) return best;

  const Raster green = blur(close(green_channel, kHairRadius), kSmoothing);
  const Raster blue = blur(close(blue_channel, kHairRadius), kSmoothing);
  Raster both(height, width);
  for (ptrdiff_t i = 0; i < both.size(); ++i)
    both[i] = static_cast<uint8_t>((green[i] + blue[i] + 1) / 2);
  double most = -1e9;
  for (const Raster& values : {blue, both, flattened(blue, visible), flattened(both, visible)}) {
    const Split split = otsu(values, visible);
    for (const double darker : kDarkerLevels) {
      const double level = split.level + darker * (split.bright - split.level);
      const Raster dark = at_most(values, level, visible);
      const Raster shape = central_part(open(dark, 1));
      const auto area =
          static_cast<double>(std::count(shape.values.begin(), shape.values.end(), 1));
      if (area < kLeastLesion * static_cast<double>(shape.size()) + 1) continue;
      const double found = score(shape, visible, green, blue) + 0.1 * darker;
      if (found > most) most = found, best = {shape, dark};
    }
  }
  best.mask = dilate(best.mask, 1);  // experts draw around the border, not along its middle
  return best;
}

}  // namespace melfast
