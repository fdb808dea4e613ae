// The Python face of the core: check the arguments, release the GIL, call.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "dispatch.h"
#include "kernels.h"

namespace py = pybind11;
using melfast::Affine;
using melfast::Colour;
using melfast::Element;
using melfast::Image;
using melfast::Normalization;
using melfast::Output;

namespace {

// Coordinates are float32, which counts no further in steps of one; pixels are counted in int32.
constexpr ptrdiff_t kLongestSide = 1 << 24, kMostPixels = INT32_MAX;

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

Output output_of(const py::object& object, const Image& image, const std::string& wanted, bool u8,
                 bool floats) {
  py::array array = as_array(object, "out");
  const Element element = element_of(array, wanted, u8, floats);
  check_pixels(array, "out");
  if (!array.writeable()) throw py::value_error("out is read-only");
  const ptrdiff_t item = array.itemsize();
  if (array.strides(2) != item || (array.shape(1) > 1 && array.strides(1) != 3 * item))
    throw py::value_error("out must have contiguous rows: wanted strides (any, " +
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
    throw py::value_error("out and image share memory; wanted separate arrays");
  return {data, element, array.shape(0), array.shape(1), array.strides(0)};
}

void check_same_size(const Image& image, const Output& out) {
  if (image.height == out.height && image.width == out.width) return;
  const auto size = [](ptrdiff_t h, ptrdiff_t w) {
    return std::to_string(h) + " x " + std::to_string(w);
  };
  throw py::value_error("out is " + size(out.height, out.width) + ", image is " +
                        size(image.height, image.width) + " (height x width); wanted the same");
}

Affine affine_of(const py::object& object) {
  const auto array = py::array_t<double, py::array::c_style | py::array::forcecast>::ensure(object);
  if (!array) {
    PyErr_Clear();
    throw py::type_error("affine must be an array of numbers, got " + type_name(object));
  }
  if (array.ndim() != 2 || array.shape(0) != 2 || array.shape(1) != 3)
    throw py::value_error("affine must have shape (2, 3), got " + shape_of(array));
  Affine affine{};
  for (int i = 0; i < 6; ++i) {
    affine.m[i] = array.data()[i];
    if (!std::isfinite(affine.m[i]))
      throw py::value_error("affine must be finite, got " + std::string(py::repr(object)));
  }
  return affine;
}

void three_numbers(const py::object& object, const std::string& name, double* out) {
  const auto array = py::array_t<double, py::array::c_style | py::array::forcecast>::ensure(object);
  if (!array) {
    PyErr_Clear();
    throw py::type_error(name + " must be 3 numbers, got " + std::string(py::repr(object)));
  }
  if (array.ndim() != 1 || array.shape(0) != 3)
    throw py::value_error(name + " must be 3 numbers, got " + std::string(py::repr(object)));
  for (int c = 0; c < 3; ++c) {
    out[c] = array.data()[c];
    if (!std::isfinite(out[c]))
      throw py::value_error(name + " must be finite, got " + std::string(py::repr(object)));
  }
}

Normalization normalization_of(const std::string& colour, const py::object& mean,
                               const py::object& std) {
  Normalization how{};
  if (colour != "rgb" && colour != "cielab")
    throw py::value_error("colour must be 'rgb' or 'cielab', got '" + colour + "'");
  how.colour = colour == "rgb" ? Colour::kRgb : Colour::kLab;
  three_numbers(mean, "mean", how.mean);
  three_numbers(std, "std", how.std);
  for (const double value : how.std)
    if (value <= 0)
      throw py::value_error("std must be > 0 in each channel, got " + std::string(py::repr(std)));
  return how;
}

void resize(const py::object& image, const py::object& out) {
  const Image source = image_of(image);
  const Output target = output_of(out, source, "uint8", true, false);
  const py::gil_scoped_release release;
  melfast::resize(source, target);
}

void warp_affine(const py::object& image, const py::object& affine, const py::object& out) {
  const Image source = image_of(image);
  const Affine matrix = affine_of(affine);
  const Output target = output_of(out, source, "uint8", true, false);
  check_same_size(source, target);
  const py::gil_scoped_release release;
  melfast::warp_affine(source, matrix, target);
}

py::array_t<float> srgb_to_lab(const py::object& object) {
  const py::array given = as_array(object, "image");
  if (!py::isinstance<py::array_t<uint8_t>>(given))
    throw py::type_error("image must be uint8, got " + std::string(py::str(given.dtype())));
  if (given.ndim() == 0 || given.shape(given.ndim() - 1) != 3)
    throw py::value_error("image must have shape (..., 3), got " + shape_of(given));
  const auto rgb = py::array_t<uint8_t, py::array::c_style | py::array::forcecast>::ensure(given);
  if (!rgb) throw py::error_already_set();
  py::array_t<float> lab(std::vector<ptrdiff_t>(rgb.shape(), rgb.shape() + rgb.ndim()));
  const uint8_t* in = rgb.data();
  float* out = lab.mutable_data();
  const ptrdiff_t count = rgb.size() / 3;
  {
    const py::gil_scoped_release release;
    melfast::srgb_to_lab(in, count, out);
  }
  return lab;
}

void normalize(const py::object& image, const py::object& out, const std::string& colour,
               const py::object& mean, const py::object& std) {
  const Image source = image_of(image);
  const Output target = output_of(out, source, "float32 or float16", false, true);
  check_same_size(source, target);
  const Normalization how = normalization_of(colour, mean, std);
  const py::gil_scoped_release release;
  melfast::normalize(source, how, target);
}

void prepare(const py::object& image, const py::object& affine, const py::object& out,
             const std::string& colour, const py::object& mean, const py::object& std) {
  const Image source = image_of(image);
  const Affine matrix = affine_of(affine);
  const Output target = output_of(out, source, "float32, float16 or uint8", true, true);
  const Normalization how = normalization_of(colour, mean, std);
  const py::gil_scoped_release release;
  melfast::prepare(source, matrix, how, target);
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "melfast's compiled core: uint8 images, without the GIL.";
  melfast::isa();  // a wrong MELFAST_ISA is an error of the import, not of the first image

  m.def("isa", &melfast::isa, R"(The instruction set in use: "baseline", "avx2" or "avx512".

The best that the machine has, chosen at import; the environment variable MELFAST_ISA forces one. All of
them give the same bits.)");

  m.def("resize", &resize, py::arg("image"), py::arg("out"),
        R"(Stretches an image to the size of `out`, antialiased.

The triangle filter of Pillow's BILINEAR: its support grows with the reduction; rounds to nearest.

Args:
    image: uint8 [H, W, 3]; any strides, but channels adjacent.
    out: uint8 [h, w, 3] to write to; rows contiguous, any stride between them.
Raises:
    TypeError: something is not an array, or of another dtype.
    ValueError: a shape, strides or memory that do not fit; the message says found and wanted.)");

  m.def("warp_affine", &warp_affine, py::arg("image"), py::arg("affine"), py::arg("out"),
        R"(Samples an image through an affine map: bilinear, edges clamped.

Args:
    image: uint8 [H, W, 3]; any strides, but channels adjacent.
    affine: finite [2, 3], output to input in centred coordinates: with x and y running from -1 to 1
        over the width and height, input = affine @ (x, y, 1). See melfast.data.plan.
    out: uint8 [H, W, 3] to write to; rows contiguous, any stride between them.
Raises:
    TypeError, ValueError: as resize.)");

  m.def("srgb_to_lab", &srgb_to_lab, py::arg("image"),
        R"(CIELAB (D65, 2 degrees) of sRGB colours, within 0.001 of float64 in each of L, a and b.

IEC 61966-2-1 and CIE 15, with the constants of scikit-image's rgb2lab.

Args:
    image: uint8 [..., 3].
Returns:
    float32 [..., 3]; L in 0..100, a and b in about -108..99.
Raises:
    TypeError, ValueError: the dtype or shape does not fit.)");

  m.def("normalize", &normalize, py::arg("image"), py::arg("out"), py::arg("colour"),
        py::arg("mean"), py::arg("std"),
        R"((value - mean) / std of each channel, in RGB or CIELAB.

Args:
    image: uint8 sRGB [H, W, 3]; any strides, but channels adjacent.
    out: float32 or float16 [H, W, 3] to write to; rows contiguous, any stride between them.
    colour: "rgb" (values 0..1) or "cielab" (L 0..100).
    mean, std: three numbers each, in the units of `colour`.
Raises:
    TypeError, ValueError: as resize.)");

  m.def("prepare", &prepare, py::arg("image"), py::arg("affine"), py::arg("out"), py::arg("colour"),
        py::arg("mean"), py::arg("std"),
        R"(An image as the network sees it: resize, warp_affine and normalize in one call.

Args:
    image: uint8 sRGB [H, W, 3]; any strides, but channels adjacent.
    affine: [2, 3], applied after the resize; the identity costs nothing.
    out: [h, w, 3] to write to; rows contiguous, any stride between them. float32 or float16 is
        normalised; uint8 is not, and `colour`, `mean` and `std` are only checked.
    colour, mean, std: as normalize.
Raises:
    TypeError, ValueError: as resize.)");
}
