// Single-channel images and operations on them for segmentation: the pictures are small, so
// each step can have its own plane.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace melfast {

// Reuses a block of the same size that this thread has released, or allocates a new one. Requesting
// the same pages from the system again and again took a quarter of the time.
uint8_t* take_block(size_t size);
void give_block_back(uint8_t* block, size_t size) noexcept;

template <class T>
struct Recycled {
  using value_type = T;
  static_assert(sizeof(T) == 1);

  Recycled() = default;
  template <class U>
  Recycled(const Recycled<U>&) {}
  T* allocate(size_t n) { return take_block(n); }
  void deallocate(T* block, size_t n) noexcept { give_block_back(block, n); }
  // Memory that will be overwritten is not cleared first.
  template <class U>
  void construct(U* at) noexcept {
    ::new (static_cast<void*>(at)) U;
  }
  template <class U, class Value>
  void construct(U* at, Value&& value) noexcept {
    ::new (static_cast<void*>(at)) U(value);
  }
  bool operator==(const Recycled&) const { return true; }
};

struct Raster {
  ptrdiff_t height = 0, width = 0;
  std::vector<uint8_t, Recycled<uint8_t>> values;  // row after row

  Raster() = default;
  Raster(ptrdiff_t h, ptrdiff_t w) : height(h), width(w), values(static_cast<size_t>(h * w)) {}
  Raster(ptrdiff_t h, ptrdiff_t w, uint8_t value)
      : height(h), width(w), values(static_cast<size_t>(h * w), value) {}

  ptrdiff_t size() const { return height * width; }
  uint8_t* data() { return values.data(); }
  const uint8_t* data() const { return values.data(); }
  uint8_t* row(ptrdiff_t y) { return values.data() + y * width; }
  const uint8_t* row(ptrdiff_t y) const { return values.data() + y * width; }
  uint8_t& operator[](ptrdiff_t i) { return values[static_cast<size_t>(i)]; }
  uint8_t operator[](ptrdiff_t i) const { return values[static_cast<size_t>(i)]; }
};

// f of the values of one or more rasters of one size, pixel by pixel. The pointers are taken out of
// the rasters, and the result does not overlap them, so that the compiler vectorises the loop.
template <class F, class... Pointers>
void map_into(uint8_t* __restrict out, ptrdiff_t n, F f, Pointers... in) {
  for (ptrdiff_t i = 0; i < n; ++i) out[i] = static_cast<uint8_t>(f(in[i]...));
}
template <class F, class... Others>
Raster map(F f, const Raster& first, const Others&... others) {
  Raster out(first.height, first.width);
  map_into(out.data(), out.size(), f, first.data(), others.data()...);
  return out;
}

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

// The parts of a mask of 0 and 1 whose pixels touch along an edge, as runs along the rows.
struct Components {
  struct Run {
    ptrdiff_t y, begin, end;  // columns begin .. end - 1
    int32_t label;            // an index of `parts`
  };
  struct Part {
    ptrdiff_t size = 0;
    ptrdiff_t top = 0, bottom = -1, left = 0, right = -1;  // first and last row and column
  };

  std::vector<Run> runs;  // from the top down, from left to right
  std::vector<Part> parts;
};
Components components_of(const Raster& mask);

// One part of a mask, 1 inside, and its position.
struct Shape {
  Raster mask;
  Components::Part part;
};

// Holes, which no path outside the part connects to its surroundings, become 1, too.
Shape filled(const Components& components, int32_t label, ptrdiff_t height, ptrdiff_t width);

}  // namespace melfast
