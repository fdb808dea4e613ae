#include "arguments.h"

#include <algorithm>
#include <cmath>

namespace melfast::bindings {
namespace {

Element element_of(const py::array& array, const std::string& wanted, bool u8, bool floats) {
  const py::dtype dtype = array.dtype();
  if (u8 && dtype.kind() == 'u' && dtype.itemsize() == 1) return Element::kU8;
  const bool native = dtype.byteorder() == '=';
  if (floats && native && dtype.kind() == 'f' && dtype.itemsize() == 4) return Element::kF32;
  if (floats && native && dtype.kind() == 'f' && dtype.itemsize() == 2) return Element::kF16;
  throw py::type_error("out must be " + wanted + ", got " + std::string(py::str(dtype)));
}

// The bytes between the first and the last element of an array.
struct Extent {
  intptr_t low, high;
};

Extent extent_of(const void* data, ptrdiff_t height, ptrdiff_t width, ptrdiff_t row_stride,
                 ptrdiff_t pixel_stride, ptrdiff_t pixel_bytes) {
  Extent extent{reinterpret_cast<intptr_t>(data), reinterpret_cast<intptr_t>(data) + pixel_bytes};
  for (const ptrdiff_t reach : {(height - 1) * row_stride, (width - 1) * pixel_stride})
    (reach < 0 ? extent.low : extent.high) += reach;
  return extent;
}

}  // namespace

std::string type_name(const py::handle& object) {
  return py::str(py::type::handle_of(object).attr("__name__"));
}

std::string shape_of(const py::array& array) { return py::str(array.attr("shape")); }

py::array as_array(const py::object& object, const std::string& name) {
  if (!py::isinstance<py::array>(object))
    throw py::type_error(name + " must be a numpy array, got " + type_name(object));
  return py::reinterpret_borrow<py::array>(object);
}

void check_pixels(const py::array& array, const std::string& name) {
  if (array.ndim() != 3)
    throw py::value_error(name + " must have shape (height, width, 3), got " + shape_of(array));
  if (array.shape(2) != 3)
    throw py::value_error(name + " must have 3 channels, got " + std::to_string(array.shape(2)));
  if (array.shape(0) == 0 || array.shape(1) == 0)
    throw py::value_error(name + " has no pixels: its shape is " + shape_of(array));
  const ptrdiff_t longest = std::max(array.shape(0), array.shape(1));
  if (longest > kLongestSide)
    throw py::value_error(name + " must have sides of at most " + std::to_string(kLongestSide) +
                          " pixels, got " + std::to_string(longest));
  if (array.shape(0) * array.shape(1) > kMostPixels)
    throw py::value_error(name + " must have at most " + std::to_string(kMostPixels) +
                          " pixels, got " + std::to_string(array.shape(0)) + " x " +
                          std::to_string(array.shape(1)));
}

Image image_of(const py::object& object) {
  const py::array array = as_array(object, "image");
  if (!py::isinstance<py::array_t<uint8_t>>(array))
    throw py::type_error("image must be uint8, got " + std::string(py::str(array.dtype())));
  check_pixels(array, "image");
  if (array.strides(2) != 1)
    throw py::value_error("image must have adjacent channels (stride 1), got a channel stride of " +
                          std::to_string(array.strides(2)));
  return {static_cast<const uint8_t*>(array.data()), array.shape(0), array.shape(1),
          array.strides(0), array.strides(1)};
}

Output output_of(const py::object& object, const Image& image, const std::string& wanted, bool u8,
                 bool floats) {
  py::array array = as_array(object, "out");
  const Element element = element_of(array, wanted, u8, floats);
  check_pixels(array, "out");
  if (!array.writeable()) throw py::value_error("out is read-only");
  const ptrdiff_t item = array.itemsize();
  if (array.strides(2) != item || (array.shape(1) > 1 && array.strides(1) != 3 * item))
    throw py::value_error("out must have contiguous rows: expected strides (any, " +
                          std::to_string(3 * item) + ", " + std::to_string(item) + "), got " +
                          std::string(py::str(array.attr("strides"))));
  if (array.shape(0) > 1 && std::abs(array.strides(0)) < 3 * item * array.shape(1))
    throw py::value_error("out has rows that overlap: each takes " +
                          std::to_string(3 * item * array.shape(1)) + " bytes, its stride is " +
                          std::to_string(array.strides(0)));
  void* data = array.mutable_data();
  if (reinterpret_cast<intptr_t>(data) % item != 0 || array.strides(0) % item != 0)
    throw py::value_error("out must be aligned to its " + std::to_string(item) + "-byte elements");
  const Extent read =
      extent_of(image.data, image.height, image.width, image.row_stride, image.pixel_stride, 3);
  const Extent written =
      extent_of(data, array.shape(0), array.shape(1), array.strides(0), 3 * item, 3 * item);
  if (read.low < written.high && written.low < read.high)
    throw py::value_error("out and image share memory; expected separate arrays");
  return {data, element, array.shape(0), array.shape(1), array.strides(0)};
}

void check_same_size(const Image& image, const Output& out) {
  if (image.height == out.height && image.width == out.width) return;
  const auto size = [](ptrdiff_t h, ptrdiff_t w) {
    return std::to_string(h) + " x " + std::to_string(w);
  };
  throw py::value_error("out is " + size(out.height, out.width) + ", image is " +
                        size(image.height, image.width) + " (height x width); expected the same");
}

Weights plane_of(const py::object& object, const std::string& name, ptrdiff_t height,
                 ptrdiff_t width) {
  const py::array array = as_array(object, name);
  if (!py::isinstance<py::array_t<uint8_t>>(array))
    throw py::type_error(name + " must be uint8, got " + std::string(py::str(array.dtype())));
  if (array.ndim() != 2 || array.shape(0) != height || array.shape(1) != width)
    throw py::value_error(name + " must have shape (" + std::to_string(height) + ", " +
                          std::to_string(width) + ") as the image, got " + shape_of(array));
  return {static_cast<const uint8_t*>(array.data()), array.strides(0), array.strides(1)};
}

py::array_t<uint8_t, py::array::c_style> curves_of(const py::object& object) {
  const py::array table = as_array(object, "curves");
  if (!py::isinstance<py::array_t<uint8_t>>(table))
    throw py::type_error("curves must be uint8, got " + std::string(py::str(table.dtype())));
  if (table.ndim() != 2 || table.shape(0) != 3 || table.shape(1) != 256)
    throw py::value_error("curves must have shape (3, 256), got " + shape_of(table));
  auto packed = py::array_t<uint8_t, py::array::c_style>::ensure(table);
  if (!packed) throw py::error_already_set();
  return packed;
}

}  // namespace melfast::bindings
