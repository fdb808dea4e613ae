// What each pixel of a dermoscopic picture shows.
#include "regions.h"

#include <algorithm>
#include <string>

#include "arguments.h"

namespace melfast::bindings {
namespace {

py::array_t<uint8_t> skin_regions(const py::object& image) {
  const Image source = image_of(image);
  // Radii grow with the longer side, and memory with their squares.
  constexpr ptrdiff_t kLongest = 16 * kWorkingSide;
  if (std::max(source.height, source.width) > kLongest)
    throw py::value_error("image must have sides of at most " + std::to_string(kLongest) +
                          " pixels, got " + std::to_string(source.height) + " x " +
                          std::to_string(source.width) + " (height x width)");
  py::array_t<uint8_t> regions({source.height, source.width});
  uint8_t* out = regions.mutable_data();
  {
    const py::gil_scoped_release release;
    melfast::skin_regions(source, out);
  }
  return regions;
}

py::array_t<uint8_t> resize_mask(const py::object& object, ptrdiff_t height, ptrdiff_t width) {
  const py::array given = as_array(object, "mask");
  if (given.dtype().kind() != 'b' && !py::isinstance<py::array_t<uint8_t>>(given))
    throw py::type_error("mask must be bool or uint8, got " + std::string(py::str(given.dtype())));
  if (given.ndim() != 2 || given.size() == 0)
    throw py::value_error("mask must have shape (height, width) and a pixel, got " +
                          shape_of(given));
  if (height < 1 || width < 1 || std::max(height, width) > kLongestSide ||
      height * width > kMostPixels)
    throw py::value_error("the size must be at least 1 x 1 and at most " +
                          std::to_string(kMostPixels) + " pixels, got " + std::to_string(height) +
                          " x " + std::to_string(width) + " (height x width)");
  const auto mask = py::array_t<uint8_t, py::array::c_style | py::array::forcecast>::ensure(given);
  if (!mask) throw py::error_already_set();
  py::array_t<uint8_t> out({height, width});
  const uint8_t* in = mask.data();
  uint8_t* data = out.mutable_data();
  const ptrdiff_t in_height = mask.shape(0), in_width = mask.shape(1);
  {
    const py::gil_scoped_release release;
    melfast::resize_mask(in, in_height, in_width, data, height, width);
  }
  return out;
}

}  // namespace

void bind_regions(py::module_& m) {
  m.attr("WORKING_SIDE") = kWorkingSide;

  m.def("skin_regions", &skin_regions, py::arg("image"),
        R"(What each pixel of a dermoscopic image shows: see melfast.skin.masks.Region.

Made for images whose longer side is WORKING_SIDE, and takes up to 16 times that.

Args:
    image: uint8 sRGB [h, w, 3]; any strides, but channels adjacent.
Returns:
    uint8 [h, w] of Region bits, 0 where clean skin is visible.
Raises:
    TypeError, ValueError: as resize.)");

  m.def("resize_mask", &resize_mask, py::arg("mask"), py::arg("height"), py::arg("width"),
        R"(A mask stretched to another size: bilinear, cut at one half, so that borders are smooth.

Args:
    mask: bool or uint8 [h, w]; whatever is not 0 is inside.
Returns:
    uint8 [height, width], 0 or 255.
Raises:
    TypeError, ValueError: the dtype, shape or size does not fit.)");
}

}  // namespace melfast::bindings
