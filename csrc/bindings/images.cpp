// Resampling and normalisation of images.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>

#include "arguments.h"
#include "kernels.h"

namespace melfast::bindings {
namespace {

// rows x columns finite numbers.
template <size_t kRows, size_t kColumns>
std::array<double, kRows * kColumns> matrix_of(const py::object& object, const std::string& name) {
  const auto array = py::array_t<double, py::array::c_style | py::array::forcecast>::ensure(object);
  if (!array) {
    PyErr_Clear();
    throw py::type_error(name + " must be an array of numbers, got " + type_name(object));
  }
  if (array.ndim() != 2 || array.shape(0) != kRows || array.shape(1) != kColumns)
    throw py::value_error(name + " must have shape (" + std::to_string(kRows) + ", " +
                          std::to_string(kColumns) + "), got " + shape_of(array));
  std::array<double, kRows * kColumns> matrix;
  std::copy_n(array.data(), matrix.size(), matrix.begin());
  for (const double value : matrix)
    if (!std::isfinite(value))
      throw py::value_error(name + " must be finite, got " + std::string(py::repr(object)));
  return matrix;
}

Affine affine_of(const py::object& object) {
  Affine affine{};
  std::ranges::copy(matrix_of<2, 3>(object, "affine"), affine.m);
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

using Box = std::optional<std::array<double, 4>>;

Extent extent_within(const Image& source, const Box& box) {
  const Extent all = whole(source);
  const auto [top, left, bottom, right] =
      box.value_or(std::array{all.top, all.left, all.bottom, all.right});
  if (!(top >= 0 && left >= 0 && bottom <= all.bottom && right <= all.right && bottom - top > 0.1 &&
        right - left > 0.1))
    throw py::value_error("extent must be y0, x0, y1, x1 within " + std::to_string(source.height) +
                          " x " + std::to_string(source.width) + ", got " +
                          std::string(py::repr(py::cast(box))));
  return {top, left, bottom, right};
}

void resize(const py::object& image, const py::object& out, const Box& extent) {
  const Image source = image_of(image);
  const Output target = output_of(out, source, "uint8", true, false);
  const Extent part = extent_within(source, extent);
  const py::gil_scoped_release release;
  melfast::resize(source, part, target);
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

// The operations of prepare other than resampling, with the memory they use.
struct Changes {
  Retouch retouch{};
  py::array_t<uint8_t, py::array::c_style> curves;
  std::array<float, 12> jitter;
};

void fill_changes(const Output& out, const py::object& mask, const py::object& curves,
                  const py::object& jitter, bool masked, const std::array<ptrdiff_t, 4>& erase,
                  const std::array<uint8_t, 3>& fill, Changes& to) {
  Retouch& retouch = to.retouch;
  if (!mask.is_none()) retouch.mask = plane_of(mask, "mask", out.height, out.width);
  if (mask.is_none() && (masked || !curves.is_none()))
    throw py::value_error("curves and masked need a mask");
  if (!curves.is_none()) {
    to.curves = curves_of(curves);
    retouch.curves = to.curves.data();
  }
  if (!jitter.is_none()) {
    const auto matrix = matrix_of<3, 4>(jitter, "jitter");
    for (size_t i = 0; i < matrix.size(); ++i)
      to.jitter[i] = static_cast<float>(matrix[i] * (i % 4 == 3 ? 255 : 1));
    retouch.jitter = to.jitter.data();
  }
  retouch.masked = masked;
  const auto [top, left, bottom, right] = erase;
  if (top < 0 || left < 0 || bottom > out.height || right > out.width || top > bottom ||
      left > right)
    throw py::value_error("erase must be y0, x0, y1, x1 within " + std::to_string(out.height) +
                          " x " + std::to_string(out.width) + ", got " +
                          std::string(py::repr(py::cast(erase))));
  std::ranges::copy(erase, retouch.erase);
  std::ranges::copy(fill, retouch.fill);
}

void prepare(const py::object& image, const py::object& affine, const py::object& out,
             const std::string& colour, const py::object& mean, const py::object& std,
             const Box& extent, const std::optional<std::array<ptrdiff_t, 2>>& working,
             const py::object& mask, const py::object& curves, const py::object& jitter,
             bool masked, const std::array<ptrdiff_t, 4>& erase,
             const std::array<uint8_t, 3>& fill) {
  const Image source = image_of(image);
  const Affine matrix = affine_of(affine);
  const Output target = output_of(out, source, "float32, float16 or uint8", true, true);
  const Normalization how = normalization_of(colour, mean, std);
  const auto [height, width] = working.value_or(std::array{target.height, target.width});
  if (height < 1 || width < 1 || height > kLongestSide || width > kLongestSide ||
      height * width > kMostPixels / 4)
    throw py::value_error("working must be a height and width of at least 1 and " +
                          std::to_string(kMostPixels / 4) + " pixels at most, got " +
                          std::to_string(height) + " x " + std::to_string(width));
  const Extent part = extent_within(source, extent);
  Changes changes;
  fill_changes(target, mask, curves, jitter, masked, erase, fill, changes);
  const py::gil_scoped_release release;
  melfast::prepare(source, part, height, width, matrix, changes.retouch, how, target);
}

}  // namespace

void bind_images(py::module_& m) {
  m.def("resize", &resize, py::arg("image"), py::arg("out"), py::kw_only(),
        py::arg("extent") = py::none(),
        R"(Stretches an image to the size of `out`, antialiased.

The triangle filter of Pillow's BILINEAR: its support grows with the reduction; rounds to nearest.

Args:
    image: uint8 [H, W, 3]; any strides, but channels adjacent.
    out: uint8 [h, w, 3] to write to; rows contiguous, any stride between them.
    extent: y0, x0, y1, x1 of the picture within `image`, in its pixels; None: all of it.
Raises:
    TypeError: something is not an array, or of another dtype.
    ValueError: a shape, strides or memory that do not fit; the message says what was found and what is expected.)");

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
        py::arg("mean"), py::arg("std"), py::kw_only(), py::arg("extent") = py::none(),
        py::arg("working") = py::none(), py::arg("mask") = py::none(),
        py::arg("curves") = py::none(), py::arg("jitter") = py::none(), py::arg("masked") = false,
        py::arg("erase") = std::array<ptrdiff_t, 4>{}, py::arg("fill") = std::array<uint8_t, 3>{},
        R"(An image as the network sees it: resize, warp, retouch and normalize in one call.

Args:
    image: uint8 sRGB [H, W, 3]; any strides, but channels adjacent.
    affine: [2, 3], applied after the resize; the identity costs nothing. One that reaches out of
        the image repeats what lies at its edge: the pixels next to the outermost.
    out: [h, w, 3] to write to; rows contiguous, any stride between them. float32 or float16 is
        normalised; uint8 is not, and `colour`, `mean` and `std` are only checked.
    colour, mean, std: as normalize.
    extent: as resize.
    working: height and width that the image is resized to before it is warped to h x w; None: h, w.
    mask: uint8 [h, w], any strides: how far each pixel of the result is lesion, 255 all.
    curves: uint8 [3, 256], applied as by apply_curves with weights 255 - mask.
    jitter: [3, 4] on sRGB in 0..1: colour = jitter @ (r, g, b, 1), clipped and rounded to uint8.
    masked: each pixel times mask / 255.
    erase: y0, x0, y1, x1 of a box in pixels of the result that becomes `fill`, uint8 sRGB.
Raises:
    TypeError, ValueError: as resize.)");
}

}  // namespace melfast::bindings
