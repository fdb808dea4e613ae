// The Python interface of the core: check the arguments, release the GIL, call.
#include "arguments.h"
#include "dispatch.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "melfast's compiled core: uint8 images, without the GIL.";
  melfast::isa();  // a wrong MELFAST_ISA fails at import, not at the first image

  m.def("isa", &melfast::isa, R"(The instruction set in use: "baseline", "avx2" or "avx512".

The best that the machine has, chosen at import; the environment variable MELFAST_ISA forces one. All of
them give the same bits.)");

  melfast::bindings::bind_colour(m);
  melfast::bindings::bind_images(m);
  melfast::bindings::bind_regions(m);
  melfast::bindings::bind_clusters(m);
  melfast::bindings::bind_masks(m);
}
