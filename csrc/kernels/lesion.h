// The lesion of a small picture.
#pragma once

#include "raster.h"

namespace melfast {

struct Lesion {
  Raster mask;  // 1 inside of the lesion, filled
  Raster dark;  // 1 wherever the picture is as dark as the lesion
};

// Finds the lesion among the shapes that thresholds of the blue and green channels cut out, with
// and without removing the shading of the skin: the most compact, sharply bordered and central
// one. The rasters have one size; pixels in `excluded` are neither lesion nor skin. Both masks are
// empty if too little of the picture is left.
Lesion find_lesion(const Raster& green, const Raster& blue, const Raster& excluded);

}  // namespace melfast
