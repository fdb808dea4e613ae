// The inner loops of clustering, compiled once per instruction set (see rows.h).
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace melfast {

// Colours that the loops work on side by side; planes are padded to a multiple of it.
inline constexpr ptrdiff_t kColourBlock = 64;

// Colours one coordinate at a time, and how often each occurs. `count` is a multiple of
// kColourBlock; colours that only fill up the last block occur 0 times.
struct ColourPlanes {
  const float *x, *y, *z;
  const double* repeats;
  ptrdiff_t count;
};

struct ClusterRows {
  // The nearest of k centres (x, y, z each) of every colour, the first of several equally near, and
  // the squared distance to it. A NaN centre is never nearest; k >= 1, and at least one is not NaN.
  void (*assign)(const ColourPlanes& colours, const float* centres, int k, int32_t* labels,
                 float* squares);
  // nearer[i] = the lesser of squares[i] and the squared distance of colour i to one colour;
  // sums[j] = the sum of repeats[i] * nearer[i] over block j.
  void (*approach)(const ColourPlanes& colours, const float* colour, const float* squares,
                   float* nearer, double* sums);
};

namespace baseline {
extern const ClusterRows kClusterRows;
}
namespace avx2 {
extern const ClusterRows kClusterRows;
}
namespace avx512 {
extern const ClusterRows kClusterRows;
}

}  // namespace melfast
