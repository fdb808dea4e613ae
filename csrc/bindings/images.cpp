// Resampling and normalisation of images.
#include <cmath>
#include <string>

#include "arguments.h"
#include "kernels.h"

namespace melfast::bindings {
namespace {

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

void bind_images(py::module_& m) {
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

}  // namespace melfast::bindings
