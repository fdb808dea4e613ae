// Single-channel bytes and what is done to them while a picture is taken apart: small pictures, so
// that a plane may be made for each step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace melfast {

struct Raster {
  ptrdiff_t height = 0, width = 0;
  std::vector<uint8_t> values;  // row after row

  Raster() = default;
  Raster(ptrdiff_t h, ptrdiff_t w, uint8_t value = 0)
      : height(h), width(w), values(static_cast<size_t>(h * w), value) {}

  ptrdiff_t size() const { return height * width; }
  uint8_t* row(ptrdiff_t y) { return values.data() + y * width; }
  const uint8_t* row(ptrdiff_t y) const { return values.data() + y * width; }
  uint8_t& operator[](ptrdiff_t i) { return values[static_cast<size_t>(i)]; }
  uint8_t operator[](ptrdiff_t i) const { return values[static_cast<size_t>(i)]; }
};

// Largest and smallest value of a square of 2 * radius + 1; what lies outside does not count.
Raster dilate(const Raster& plane, ptrdiff_t radius);
Raster erode(const Raster& plane, ptrdiff_t radius);
inline Raster close(const Raster& plane, ptrdiff_t radius) {
  return erode(dilate(plane, radius), radius);
}
inline Raster open(const Raster& plane, ptrdiff_t radius) {
  return dilate(erode(plane, radius), radius);
}

// (1 2 1) / 4 along both axes, rounded, edges repeated; `times` over.
Raster blur(Raster plane, int times);

// The parts of a mask (0 is outside) whose pixels touch along an edge.
struct Components {
  struct Part {
    ptrdiff_t size = 0;
    ptrdiff_t top = 0, bottom = 0, left = 0, right = 0;  // first and last row and column
  };

  std::vector<int32_t> label;  // of each pixel: an index of `parts`, -1 outside
  std::vector<Part> parts;
};
Components components_of(const Raster& mask);

// What no path outside of the mask joins to the edge of the picture becomes 1 too.
void fill_holes(Raster& mask);

}  // namespace melfast
