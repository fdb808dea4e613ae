#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "dispatch.h"

namespace melfast {
namespace {

// Kept between calls, one per thread: a loader's threads prepare thousands of images alike.
struct Scratch {
  std::vector<uint8_t> packed;   // an image whose pixels were not adjacent
  std::vector<uint8_t> resized;  // what the warp reads
  std::vector<uint8_t> row;      // what the colour conversion reads
  std::vector<float> blended;    // a row between the two passes of the resize
  std::vector<float> lab;
  std::vector<const uint8_t*> source_rows;
};
thread_local Scratch scratch;

template <class T>
T* grow(std::vector<T>& buffer, ptrdiff_t count) {
  const auto wanted = static_cast<size_t>(count + kRowPadding);
  if (buffer.size() < wanted) buffer.resize(wanted);
  return buffer.data();
}

void copy_row(const Image& image, ptrdiff_t y, uint8_t* out) {
  const uint8_t* in = image.row(y);
  if (image.pixel_stride == 3) {
    std::memcpy(out, in, static_cast<size_t>(3 * image.width));
    return;
  }
  for (ptrdiff_t x = 0; x < image.width; ++x)
    for (int c = 0; c < 3; ++c) out[3 * x + c] = in[x * image.pixel_stride + c];
}

// The image with adjacent pixels and rows, and padding behind it.
Image pack(const Image& image, std::vector<uint8_t>& buffer) {
  const ptrdiff_t row_bytes = 3 * image.width;
  uint8_t* out = grow(buffer, row_bytes * image.height);
  for (ptrdiff_t y = 0; y < image.height; ++y) copy_row(image, y, out + y * row_bytes);
  return {out, image.height, image.width, row_bytes, 3};
}

// The triangle's support grows with the reduction, and never falls below one input pixel.
class Filter {
 public:
  Filter(ptrdiff_t in_size, ptrdiff_t out_size) {
    const double scale = static_cast<double>(in_size) / static_cast<double>(out_size);
    const double support = std::max(scale, 1.0);
    stride_ = static_cast<ptrdiff_t>(std::ceil(support)) * 2 + 1;
    first_.resize(static_cast<size_t>(out_size));
    count_.resize(static_cast<size_t>(out_size));
    weight_.resize(static_cast<size_t>(out_size * stride_));
    for (ptrdiff_t i = 0; i < out_size; ++i) {
      const double centre = (static_cast<double>(i) + 0.5) * scale;
      const auto low = std::max<ptrdiff_t>(static_cast<ptrdiff_t>(centre - support + 0.5), 0);
      const auto high = std::min<ptrdiff_t>(static_cast<ptrdiff_t>(centre + support + 0.5), in_size);
      double total = 0;
      for (ptrdiff_t k = low; k < high; ++k) total += at(k, centre, support);
      for (ptrdiff_t k = low; k < high; ++k)
        weight_[static_cast<size_t>(i * stride_ + k - low)] =
            static_cast<float>(at(k, centre, support) / total);
      first_[static_cast<size_t>(i)] = static_cast<int32_t>(low);
      count_[static_cast<size_t>(i)] = static_cast<int32_t>(high - low);
    }
  }

  Taps taps() const {
    return {static_cast<ptrdiff_t>(first_.size()), stride_, first_.data(), count_.data(),
            weight_.data()};
  }

 private:
  static double at(ptrdiff_t k, double centre, double support) {
    return std::max(0.0, 1.0 - std::abs((static_cast<double>(k) + 0.5 - centre) / support));
  }

  ptrdiff_t stride_;
  std::vector<int32_t> first_, count_;
  std::vector<float> weight_;
};

// Calls row_done(y) after each output row has been written to row_at(y).
template <class RowAt, class RowDone>
void resize_rows(const Image& source, ptrdiff_t height, ptrdiff_t width, RowAt row_at,
                 RowDone row_done) {
  const Image image = source.pixel_stride == 3 ? source : pack(source, scratch.packed);
  const Filter vertical(image.height, height), horizontal(image.width, width);
  const Taps down = vertical.taps(), across = horizontal.taps();
  float* blended = grow(scratch.blended, 3 * image.width);
  const uint8_t** source_rows = grow(scratch.source_rows, down.stride);
  for (ptrdiff_t y = 0; y < height; ++y) {
    for (ptrdiff_t k = 0; k < down.count[y]; ++k) source_rows[k] = image.row(down.first[y] + k);
    rows().blend_rows(source_rows, down.weight + y * down.stride, down.count[y], 3 * image.width,
                      blended);
    rows().resample_row(blended, across, row_at(y));
    row_done(y);
  }
}

// From the columns and rows of the output to those of the source, both in pixels.
WarpRow warp_row_at(const Affine& affine, ptrdiff_t height, ptrdiff_t width, ptrdiff_t y) {
  const double h = static_cast<double>(height), w = static_cast<double>(width);
  const double* m = affine.m;
  const double x_first = 1 / w - 1, y_here = (2 * static_cast<double>(y) + 1) / h - 1;
  const double x_in = m[0] * x_first + m[1] * y_here + m[2];
  const double y_in = m[3] * x_first + m[4] * y_here + m[5];
  return {(x_in + 1) * w / 2 - 0.5, (y_in + 1) * h / 2 - 0.5, m[0], m[3] * h / w};
}

// sRGB decoding of IEC 61966-2-1, linear light in 0..1.
const float* linear_table() {
  static const auto table = [] {
    std::vector<float> values(256);
    for (size_t i = 0; i < values.size(); ++i) {
      const double v = static_cast<double>(i) / 255;
      values[i] =
          static_cast<float>(v > 0.04045 ? std::pow((v + 0.055) / 1.055, 2.4) : v / 12.92);
    }
    return values;
  }();
  return table.data();
}

class Normalizer {
 public:
  Normalizer(const Normalization& how, Element element, ptrdiff_t width)
      : colour_(how.colour), element_(element), width_(width) {
    for (int c = 0; c < 3; ++c) {
      scale_[c] = static_cast<float>(1 / how.std[c]);
      offset_[c] = static_cast<float>(-how.mean[c] / how.std[c]);
      for (int i = 0; i < 256; ++i)
        table_f32_[256 * c + i] = static_cast<float>((i / 255.0 - how.mean[c]) / how.std[c]);
    }
    if (element == Element::kF16) rows().to_half(table_f32_, 768, table_f16_);
  }

  void row(const uint8_t* rgb, void* out) const {
    const bool half = element_ == Element::kF16;
    if (colour_ == Colour::kRgb) {
      if (half)
        rows().look_up_f16(rgb, width_, table_f16_, static_cast<uint16_t*>(out));
      else
        rows().look_up_f32(rgb, width_, table_f32_, static_cast<float*>(out));
      return;
    }
    float* lab = half ? grow(scratch.lab, 3 * width_) : static_cast<float*>(out);
    rows().lab_row(rgb, width_, linear_table(), scale_, offset_, lab);
    if (half) rows().to_half(lab, 3 * width_, static_cast<uint16_t*>(out));
  }

 private:
  Colour colour_;
  Element element_;
  ptrdiff_t width_;
  float scale_[3], offset_[3];
  float table_f32_[768];
  uint16_t table_f16_[768];
};

}  // namespace

void resize(const Image& image, const Output& out) {
  resize_rows(
      image, out.height, out.width, [&](ptrdiff_t y) { return out.row(y); }, [](ptrdiff_t) {});
}

void warp_affine(const Image& image, const Affine& affine, const Output& out) {
  const Image source = pack(image, scratch.packed);
  for (ptrdiff_t y = 0; y < out.height; ++y)
    rows().warp_row(source.data, out.height, out.width,
                    warp_row_at(affine, out.height, out.width, y), out.width, out.row(y));
}

void srgb_to_lab(const uint8_t* rgb, ptrdiff_t count, float* lab) {
  const float scale[3] = {1, 1, 1}, offset[3] = {0, 0, 0};
  rows().lab_row(rgb, count, linear_table(), scale, offset, lab);
}

void normalize(const Image& image, const Normalization& how, const Output& out) {
  const Normalizer normalizer(how, out.element, out.width);
  uint8_t* row = grow(scratch.row, 3 * out.width);
  for (ptrdiff_t y = 0; y < out.height; ++y) {
    copy_row(image, y, row);
    normalizer.row(row, out.row(y));
  }
}

void prepare(const Image& image, const Affine& affine, const Normalization& how,
             const Output& out) {
  const bool warped = !affine.is_identity(), plain = out.element == Element::kU8;
  const Normalizer normalizer(how, out.element, out.width);
  const ptrdiff_t row_bytes = 3 * out.width;
  uint8_t* row = grow(scratch.row, row_bytes);
  if (!warped) {
    resize_rows(
        image, out.height, out.width, [&](ptrdiff_t y) { return plain ? out.row(y) : row; },
        [&](ptrdiff_t y) {
          if (!plain) normalizer.row(row, out.row(y));
        });
    return;
  }
  uint8_t* resized = grow(scratch.resized, row_bytes * out.height);
  resize_rows(
      image, out.height, out.width, [&](ptrdiff_t y) { return resized + y * row_bytes; },
      [](ptrdiff_t) {});
  for (ptrdiff_t y = 0; y < out.height; ++y) {
    uint8_t* target = plain ? out.row(y) : row;
    rows().warp_row(resized, out.height, out.width, warp_row_at(affine, out.height, out.width, y),
                    out.width, target);
    if (!plain) normalizer.row(row, out.row(y));
  }
}

}  // namespace melfast
