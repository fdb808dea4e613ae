#include "raster.h"

#include <algorithm>
#include <cstring>

namespace melfast {
namespace {

struct Largest {
  static constexpr uint8_t kNeutral = 0;
  static uint8_t of(uint8_t a, uint8_t b) { return a > b ? a : b; }
};

struct Smallest {
  static constexpr uint8_t kNeutral = 255;
  static uint8_t of(uint8_t a, uint8_t b) { return a < b ? a : b; }
};

template <class Extreme>
void combine(const uint8_t* a, const uint8_t* b, ptrdiff_t n, uint8_t* __restrict out) {
  for (ptrdiff_t i = 0; i < n; ++i) out[i] = Extreme::of(a[i], b[i]);
}

// Each value becomes the extreme of `count` values that are `step` apart, itself the first; values
// for which there are fewer ahead become worthless. The reach doubles with each pass.
template <class Extreme>
void look_ahead(std::vector<uint8_t>& values, std::vector<uint8_t>& other, ptrdiff_t step,
                ptrdiff_t count) {
  for (ptrdiff_t reach = 1; reach < count;) {
    const ptrdiff_t next = std::min(reach, count - reach);
    const auto size = static_cast<ptrdiff_t>(values.size()) - next * step;
    combine<Extreme>(values.data(), values.data() + next * step, size, other.data());
    values.swap(other);
    reach += next;
  }
}

template <class Extreme>
Raster extreme(const Raster& plane, ptrdiff_t radius) {
  const ptrdiff_t height = plane.height, width = plane.width, stride = width + 2 * radius;
  const auto size = static_cast<size_t>((height + 2 * radius) * stride);
  std::vector<uint8_t> values(size, Extreme::kNeutral), other(size, Extreme::kNeutral);
  for (ptrdiff_t y = 0; y < height; ++y)
    std::memcpy(values.data() + (y + radius) * stride + radius, plane.row(y),
                static_cast<size_t>(width));
  look_ahead<Extreme>(values, other, 1, 2 * radius + 1);
  look_ahead<Extreme>(values, other, stride, 2 * radius + 1);
  Raster out(height, width);
  for (ptrdiff_t y = 0; y < height; ++y)
    std::memcpy(out.row(y), values.data() + y * stride, static_cast<size_t>(width));
  return out;
}

// (1 2 1) / 4 of three rows.
void blend(const uint8_t* a, const uint8_t* b, const uint8_t* c, ptrdiff_t n,
           uint8_t* __restrict out) {
  for (ptrdiff_t i = 0; i < n; ++i) out[i] = static_cast<uint8_t>((a[i] + 2 * b[i] + c[i] + 2) / 4);
}

// Labels that turned out to be one are joined: each points to another, the least to itself.
int32_t root_of(std::vector<int32_t>& parent, int32_t label) {
  while (parent[static_cast<size_t>(label)] != label) {
    int32_t& up = parent[static_cast<size_t>(label)];
    up = parent[static_cast<size_t>(up)];
    label = up;
  }
  return label;
}

}  // namespace

Raster dilate(const Raster& plane, ptrdiff_t radius) { return extreme<Largest>(plane, radius); }
Raster erode(const Raster& plane, ptrdiff_t radius) { return extreme<Smallest>(plane, radius); }

Raster blur(Raster plane, int times) {
  const ptrdiff_t height = plane.height, width = plane.width;
  Raster other(height, width);
  std::vector<uint8_t> padded(static_cast<size_t>(width + 2));
  for (int time = 0; time < times; ++time) {
    for (ptrdiff_t y = 0; y < height; ++y)
      blend(plane.row(std::max<ptrdiff_t>(y - 1, 0)), plane.row(y),
            plane.row(std::min(y + 1, height - 1)), width, other.row(y));
    for (ptrdiff_t y = 0; y < height; ++y) {
      std::memcpy(padded.data() + 1, other.row(y), static_cast<size_t>(width));
      padded.front() = padded[1];
      padded.back() = padded[padded.size() - 2];
      blend(padded.data(), padded.data() + 1, padded.data() + 2, width, plane.row(y));
    }
  }
  return plane;
}

Components components_of(const Raster& mask) {
  const ptrdiff_t height = mask.height, width = mask.width;
  Components found;
  found.label.assign(static_cast<size_t>(mask.size()), -1);
  int32_t* label = found.label.data();
  std::vector<int32_t> parent;
  for (ptrdiff_t y = 0; y < height; ++y) {
    for (ptrdiff_t x = 0; x < width; ++x) {
      const ptrdiff_t i = y * width + x;
      if (!mask[i]) continue;
      const int32_t left = x ? label[i - 1] : -1, above = y ? label[i - width] : -1;
      if (left < 0 && above < 0) {
        label[i] = static_cast<int32_t>(parent.size());
        parent.push_back(label[i]);
      } else if (left < 0 || above < 0 || left == above) {
        label[i] = std::max(left, above);
      } else {
        const int32_t a = root_of(parent, left), b = root_of(parent, above);
        label[i] = std::min(a, b);
        parent[static_cast<size_t>(std::max(a, b))] = label[i];
      }
    }
  }

  // A root comes before all that point to it.
  std::vector<int32_t> number(parent.size());
  for (size_t i = 0; i < parent.size(); ++i) {
    const int32_t root = root_of(parent, static_cast<int32_t>(i));
    if (root == static_cast<int32_t>(i)) {
      number[i] = static_cast<int32_t>(found.parts.size());
      found.parts.push_back({0, height, -1, width, -1});
    } else {
      number[i] = number[static_cast<size_t>(root)];
    }
  }
  for (ptrdiff_t y = 0; y < height; ++y) {
    for (ptrdiff_t x = 0; x < width; ++x) {
      int32_t& mine = label[y * width + x];
      if (mine < 0) continue;
      mine = number[static_cast<size_t>(mine)];
      Components::Part& part = found.parts[static_cast<size_t>(mine)];
      ++part.size;
      part.top = std::min(part.top, y);
      part.bottom = std::max(part.bottom, y);
      part.left = std::min(part.left, x);
      part.right = std::max(part.right, x);
    }
  }
  return found;
}

void fill_holes(Raster& mask) {
  const ptrdiff_t height = mask.height, width = mask.width;
  // 0: not reached, 1: mask, 2: outside.
  std::vector<ptrdiff_t> open;
  const auto reach = [&](ptrdiff_t i) {
    if (mask[i]) return;
    mask[i] = 2;
    open.push_back(i);
  };
  for (ptrdiff_t x = 0; x < width; ++x) reach(x), reach((height - 1) * width + x);
  for (ptrdiff_t y = 0; y < height; ++y) reach(y * width), reach(y * width + width - 1);
  while (!open.empty()) {
    const ptrdiff_t i = open.back(), x = i % width;
    open.pop_back();
    if (x) reach(i - 1);
    if (x + 1 < width) reach(i + 1);
    if (i >= width) reach(i - width);
    if (i + width < mask.size()) reach(i + width);
  }
  for (ptrdiff_t i = 0; i < mask.size(); ++i) mask[i] = mask[i] != 2;
}

}  // namespace melfast
