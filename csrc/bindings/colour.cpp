// Colours between sRGB and CIELAB, and images moved in them.
#include <cmath>
#include <string>
#include <vector>

#include "arguments.h"
#include "kernels.h"

namespace melfast::bindings {
namespace {

// T [..., 3] of any strides.
template <class T>
py::array colours_of(const py::object& object, const std::string& name, const std::string& wanted) {
  const py::array given = as_array(object, name);
  if (!py::isinstance<py::array_t<T>>(given))
    throw py::type_error(name + " must be " + wanted + ", got " +
                         std::string(py::str(given.dtype())));
  if (given.ndim() == 0 || given.shape(given.ndim() - 1) != 3)
    throw py::value_error(name + " must have shape (..., 3), got " + shape_of(given));
  return given;
}

Pixels pixels_of(const py::array& array) {
  const ptrdiff_t* shape = array.shape();
  const ptrdiff_t* strides = array.strides();
  const ptrdiff_t last = array.ndim() - 1;
  return {array.data(), {shape, shape + last}, {strides, strides + last}, strides[last]};
}

template <class T>
py::array_t<T> like(const py::array& array) {
  return py::array_t<T>(std::vector<ptrdiff_t>(array.shape(), array.shape() + array.ndim()));
}

py::array_t<float> srgb_to_lab(const py::object& object) {
  const py::array given = colours_of<uint8_t>(object, "image", "uint8");
  py::array_t<float> lab = like<float>(given);
  const Pixels rgb = pixels_of(given);
  float* out = lab.mutable_data();
  const py::gil_scoped_release release;
  melfast::srgb_to_lab(rgb, out);
  return lab;
}

py::array_t<uint8_t> lab_to_srgb(const py::object& object) {
  const py::array given = colours_of<float>(object, "lab", "float32");
  py::array_t<uint8_t> rgb = like<uint8_t>(given);
  const Pixels lab = pixels_of(given);
  uint8_t* out = rgb.mutable_data();
  const py::gil_scoped_release release;
  melfast::lab_to_srgb(lab, out);
  return rgb;
}

void shift_lab(const py::object& image, const py::object& weights, double l, double a, double b,
               const py::object& out) {
  const Image source = image_of(image);
  const Weights plane = plane_of(weights, "weights", source.height, source.width);
  for (const double value : {l, a, b})
    if (!(std::abs(value) <= 1000))
      throw py::value_error("l, a and b must be within -1000..1000, got " +
                            std::string(py::str(py::float_(value))));
  const float offset[3] = {static_cast<float>(l), static_cast<float>(a), static_cast<float>(b)};
  const Output target = output_of(out, source, "uint8", true, false);
  check_same_size(source, target);
  const py::gil_scoped_release release;
  melfast::shift_lab(source, plane, offset, target);
}

void apply_curves(const py::object& image, const py::object& weights, const py::object& curves,
                  const py::object& out) {
  const Image source = image_of(image);
  const Weights plane = plane_of(weights, "weights", source.height, source.width);
  const auto packed = curves_of(curves);
  const Output target = output_of(out, source, "uint8", true, false);
  check_same_size(source, target);
  const uint8_t* levels = packed.data();
  const py::gil_scoped_release release;
  melfast::apply_curves(source, plane, levels, target);
}

}  // namespace

void bind_colour(py::module_& m) {
  m.def("srgb_to_lab", &srgb_to_lab, py::arg("image"),
        R"(CIELAB (D65, 2 degrees) of sRGB colours, within 0.001 of float64 in each of L, a and b.

IEC 61966-2-1 and CIE 15, with the constants of scikit-image's rgb2lab.

Args:
    image: uint8 [..., 3], any strides; a view is not copied.
Returns:
    float32 [..., 3]; L in 0..100, a and b in about -108..99.
Raises:
    TypeError, ValueError: the dtype or shape does not fit.)");

  m.def("lab_to_srgb", &lab_to_srgb, py::arg("lab"),
        R"(The nearest sRGB colours of CIELAB (D65, 2 degrees); the inverse of srgb_to_lab.

Every 8-bit colour comes back from srgb_to_lab exactly. Out of gamut, each channel is clipped.

Args:
    lab: float32 [..., 3], any strides; a view is not copied. A value that is not finite gives a colour
        without meaning, and nothing worse: melfast.skin.colour refuses it.
Returns:
    uint8 [..., 3].
Raises:
    TypeError, ValueError: the dtype or shape does not fit.)");

  m.def("shift_lab", &shift_lab, py::arg("image"), py::arg("weights"), py::arg("l"), py::arg("a"),
        py::arg("b"), py::arg("out"),
        R"(Adds weight / 255 times (l, a, b) to the CIELAB of each pixel; channels are clipped.

Args:
    image: uint8 sRGB [H, W, 3]; any strides, but channels adjacent.
    weights: uint8 [H, W], any strides; where 0, the pixel stays as it is.
    l, a, b: -1000..1000.
    out: uint8 [H, W, 3] to write to; rows contiguous, any stride between them.
Raises:
    TypeError, ValueError: as resize.)");

  m.def("apply_curves", &apply_curves, py::arg("image"), py::arg("weights"), py::arg("curves"),
        py::arg("out"),
        R"(Mixes each pixel, by weight / 255, with what curves make of its channels.

Args:
    image: uint8 [H, W, 3]; any strides, but channels adjacent.
    weights: uint8 [H, W], any strides; where 0, the pixel stays as it is.
    curves: uint8 [3, 256], the new level of each level, channel by channel.
    out: uint8 [H, W, 3] to write to; rows contiguous, any stride between them.
Raises:
    TypeError, ValueError: as resize.)");
}

}  // namespace melfast::bindings
