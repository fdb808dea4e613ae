#include "raster.h"

#include <algorithm>
#include <cstring>
#include <memory>

namespace melfast {
namespace {

using Buffer = std::vector<uint8_t, Recycled<uint8_t>>;

// Blocks that rasters of this thread have released, the last one last.
class Store {
 public:
  uint8_t* take(size_t size) {
    for (size_t i = blocks_.size(); i-- > 0;) {
      if (blocks_[i].size != size) continue;
      uint8_t* block = blocks_[i].bytes.release();
      blocks_.erase(blocks_.begin() + static_cast<ptrdiff_t>(i));
      total_ -= size;
      return block;
    }
    return new uint8_t[size];
  }

  void give_back(uint8_t* bytes, size_t size) {
    std::unique_ptr<uint8_t[]> block(bytes);
    if (size > kMostBytes) return;
    blocks_.push_back({std::move(block), size});
    total_ += size;
    while (total_ > kMostBytes) {  // blocks for images of other sizes
      total_ -= blocks_.front().size;
      blocks_.erase(blocks_.begin());
    }
  }

 private:
  static constexpr size_t kMostBytes = 8 << 20;
  struct Block {
    std::unique_ptr<uint8_t[]> bytes;
    size_t size;
  };
  std::vector<Block> blocks_;
  size_t total_ = 0;
};

Store& store() {
  thread_local Store mine;
  return mine;
}

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
// with fewer ahead become invalid. The range doubles with each pass.
template <class Extreme>
void look_ahead(Buffer& values, Buffer& other, ptrdiff_t step, ptrdiff_t count) {
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
  Buffer values(size, Extreme::kNeutral), other(size, Extreme::kNeutral);
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

// The first place with the value; `end` where there is none.
const uint8_t* find(const uint8_t* begin, const uint8_t* end, int value) {
  const void* found = std::memchr(begin, value, static_cast<size_t>(end - begin));
  return found ? static_cast<const uint8_t*>(found) : end;
}

// Equivalent labels are joined: each points to another, the smallest to itself.
int32_t root_of(std::vector<int32_t>& parent, int32_t label) {
  while (parent[static_cast<size_t>(label)] != label) {
    int32_t& up = parent[static_cast<size_t>(label)];
    up = parent[static_cast<size_t>(up)];
    label = up;
  }
  return label;
}

}  // namespace

uint8_t* take_block(size_t size) { return store().take(size); }
void give_block_back(uint8_t* block, size_t size) noexcept { store().give_back(block, size); }

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
  Components found;
  std::vector<Components::Run>& runs = found.runs;
  std::vector<int32_t> parent;
  size_t above = 0, above_end = 0;  // the runs of the row before
  for (ptrdiff_t y = 0; y < mask.height; ++y) {
    const uint8_t *row = mask.row(y), *end = row + mask.width, *at = row;
    const size_t first = runs.size();
    while ((at = find(at, end, 1)) != end) {
      const uint8_t* stop = find(at, end, 0);
      Components::Run run{y, at - row, stop - row, -1};
      while (above < above_end && runs[above].end <= run.begin) ++above;
      // The last run above that touches may touch the next one here too.
      for (size_t i = above; i < above_end && runs[i].begin < run.end; ++i) {
        const int32_t root = root_of(parent, runs[i].label);
        if (run.label < 0) {
          run.label = root;
        } else if (run.label != root) {
          parent[static_cast<size_t>(std::max(run.label, root))] = std::min(run.label, root);
          run.label = std::min(run.label, root);
        }
      }
      if (run.label < 0) {
        run.label = static_cast<int32_t>(parent.size());
        parent.push_back(run.label);
      }
      runs.push_back(run);
      at = stop;
    }
    above = first, above_end = runs.size();
  }

  // A root comes before all that point to it.
  std::vector<int32_t> number(parent.size());
  for (size_t i = 0; i < parent.size(); ++i) {
    const int32_t root = root_of(parent, static_cast<int32_t>(i));
    if (root == static_cast<int32_t>(i)) {
      number[i] = static_cast<int32_t>(found.parts.size());
      found.parts.push_back({0, mask.height, -1, mask.width, -1});
    } else {
      number[i] = number[static_cast<size_t>(root)];
    }
  }
  for (Components::Run& run : runs) {
    run.label = number[static_cast<size_t>(run.label)];
    Components::Part& part = found.parts[static_cast<size_t>(run.label)];
    part.size += run.end - run.begin;
    part.top = std::min(part.top, run.y);
    part.bottom = std::max(part.bottom, run.y);
    part.left = std::min(part.left, run.begin);
    part.right = std::max(part.right, run.end - 1);
  }
  return found;
}

Shape filled(const Components& components, int32_t label, ptrdiff_t height, ptrdiff_t width) {
  Shape shape{Raster(height, width, 0), components.parts[static_cast<size_t>(label)]};
  Components::Part& part = shape.part;
  // The complement of the part, in a frame one pixel wide, which connects everything outside.
  const ptrdiff_t top = part.top - 1, left = part.left - 1;
  Raster others(part.bottom - part.top + 3, part.right - part.left + 3, 1);
  for (const Components::Run& run : components.runs)
    if (run.label == label)
      std::fill(others.row(run.y - top) + run.begin - left,
                others.row(run.y - top) + run.end - left, uint8_t{0});
  const Components around = components_of(others);
  Raster inside(others.height, others.width, 1);
  for (const Components::Run& run : around.runs)
    if (run.label == around.runs.front().label)
      std::fill(inside.row(run.y) + run.begin, inside.row(run.y) + run.end, uint8_t{0});
  for (ptrdiff_t y = part.top; y <= part.bottom; ++y)
    std::copy_n(inside.row(y - top) + 1, part.right - part.left + 1, shape.mask.row(y) + part.left);
  part.size = std::count(inside.values.begin(), inside.values.end(), 1);
  return shape;
}

}  // namespace melfast
