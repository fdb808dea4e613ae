// Pixels of any shape and strides, read in order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace melfast {

// Pixels of three channels: shape and strides (in bytes, of any sign) of every axis but the
// channels'.
struct Pixels {
  const void* data;
  std::vector<ptrdiff_t> shape, strides;
  ptrdiff_t channel_stride;

  ptrdiff_t count() const {
    ptrdiff_t product = 1;
    for (const ptrdiff_t size : shape) product *= size;
    return product;
  }
};

// Provides pixels in pieces: a pointer into the memory itself if it is contiguous, otherwise a
// copy of the piece, so that a view is never copied as a whole.
template <class T>
class PixelReader {
 public:
  static constexpr ptrdiff_t kMost = 1024;  // at a time: 12 KiB of float32

  explicit PixelReader(const Pixels& pixels)
      : pixels_(pixels),
        index_(pixels.shape.size(), 0),
        left_(pixels.count()),
        at_(static_cast<const char*>(pixels.data)) {
    contiguous_ = pixels.channel_stride == sizeof(T) &&
                  reinterpret_cast<uintptr_t>(pixels.data) % alignof(T) == 0;
    ptrdiff_t step = 3 * sizeof(T);
    for (size_t axis = pixels.shape.size(); axis-- > 0; step *= pixels.shape[axis])
      contiguous_ = contiguous_ && (pixels.shape[axis] == 1 || pixels.strides[axis] == step);
    if (!contiguous_) copy_.resize(3 * kMost);
  }

  // The next pixels and their number; 0 at the end.
  const T* next(ptrdiff_t* count) {
    *count = left_ < kMost ? left_ : kMost;
    left_ -= *count;
    if (contiguous_) {
      const char* from = at_;
      at_ += 3 * static_cast<ptrdiff_t>(sizeof(T)) * *count;
      return reinterpret_cast<const T*>(from);
    }
    for (ptrdiff_t i = 0; i < *count; ++i, advance())
      for (ptrdiff_t c = 0; c < 3; ++c)
        std::memcpy(&copy_[static_cast<size_t>(3 * i + c)], at_ + c * pixels_.channel_stride,
                    sizeof(T));
    return copy_.data();
  }

 private:
  // The last axis runs fastest.
  void advance() {
    for (size_t axis = index_.size(); axis-- > 0;) {
      at_ += pixels_.strides[axis];
      if (++index_[axis] < pixels_.shape[axis]) return;
      at_ -= index_[axis] * pixels_.strides[axis];
      index_[axis] = 0;
    }
  }

  const Pixels& pixels_;
  std::vector<ptrdiff_t> index_;
  ptrdiff_t left_;
  const char* at_;
  bool contiguous_;
  std::vector<T> copy_;
};

}  // namespace melfast
