// Checks of the arguments from Python; each error says what was found and what is expected.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "image.h"
#include "kernels.h"

namespace melfast::bindings {

namespace py = pybind11;

// Coordinates are float32, which cannot count further in steps of one; pixels are counted in int32.
inline constexpr ptrdiff_t kLongestSide = 1 << 24, kMostPixels = INT32_MAX;

std::string type_name(const py::handle& object);
std::string shape_of(const py::array& array);
py::array as_array(const py::object& object, const std::string& name);

// [height, width, 3], at least one pixel, no more than the kernels can count.
void check_pixels(const py::array& array, const std::string& name);

// uint8 [height, width, 3] to read, any strides but adjacent channels.
Image image_of(const py::object& object);

// [height, width, 3] to write: rows contiguous, writeable, apart from the image.
Output output_of(const py::object& object, const Image& image, const std::string& wanted, bool u8,
                 bool floats);
void check_same_size(const Image& image, const Output& out);

// uint8 [height, width] to read, any strides.
Weights plane_of(const py::object& object, const std::string& name, ptrdiff_t height,
                 ptrdiff_t width);

// uint8 [3, 256]: levels for each channel.
py::array_t<uint8_t, py::array::c_style> curves_of(const py::object& object);

// Each file of functions adds its own to the module.
void bind_colour(py::module_& m);
void bind_images(py::module_& m);
void bind_regions(py::module_& m);
void bind_clusters(py::module_& m);
void bind_masks(py::module_& m);

}  // namespace melfast::bindings
