// The published mask of lesion and hair.
#include "arguments.h"
#include "published.h"

namespace melfast::bindings {
namespace {

py::array_t<uint8_t> published_mask(const py::object& object) {
  const Image image = image_of(object);
  py::array_t<uint8_t> mask({image.height, image.width});
  uint8_t* out = mask.mutable_data();
  {
    const py::gil_scoped_release release;
    melfast::published_mask(image, out);
  }
  return mask;
}

}  // namespace

void bind_masks(py::module_& m) {
  m.def(
      "published_mask", &published_mask, py::arg("image"),
      R"(Lesion and hair as the published ITA pipeline finds them with OpenCV, on an image of any size.

CLAHE of the lightness; hair is where the black-hat of a 9x9 cross exceeds 20 after a blur; lesion is
Otsu's dark side of the largest channel, opened, dilated and closed. Steps and deviations:
csrc/kernels/published.cpp. One colour alone, black or white, has no dark side: it gives no lesion.

Args:
    image: uint8 sRGB [H, W, 3]; any strides, but channels adjacent.
Returns:
    uint8 [H, W]: 255 lesion or hair, 0 skin.
Raises:
    TypeError, ValueError: as resize.)");
}

}  // namespace melfast::bindings
