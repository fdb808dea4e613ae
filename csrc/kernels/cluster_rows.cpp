// Compiled once per instruction set, like rows.cpp: internal linkage, no C++ library template.
#include "cluster_rows.h"

namespace melfast::MELFAST_NAMESPACE {
namespace {

constexpr float kFar = 3e38f;  // beyond the square of any distance that is allowed

void assign(const ColourPlanes& colours, const float* centres, int k, int32_t* __restrict labels,
            float* __restrict squares) {
  for (ptrdiff_t at = 0; at < colours.count; at += kColourBlock) {
    const float *x = colours.x + at, *y = colours.y + at, *z = colours.z + at;
    float best[kColourBlock];
    int32_t label[kColourBlock];
    for (ptrdiff_t i = 0; i < kColourBlock; ++i) best[i] = kFar, label[i] = 0;
    for (int c = 0; c < k; ++c) {
      const float cx = centres[3 * c], cy = centres[3 * c + 1], cz = centres[3 * c + 2];
      for (ptrdiff_t i = 0; i < kColourBlock; ++i) {
        const float dx = x[i] - cx, dy = y[i] - cy, dz = z[i] - cz;
        const float square = dx * dx + dy * dy + dz * dz;
        label[i] = square < best[i] ? c : label[i];
        best[i] = square < best[i] ? square : best[i];
      }
    }
    for (ptrdiff_t i = 0; i < kColourBlock; ++i) labels[at + i] = label[i];
    for (ptrdiff_t i = 0; i < kColourBlock; ++i) squares[at + i] = best[i];
  }
}

void approach(const ColourPlanes& colours, const float* colour, const float* squares,
              float* __restrict nearer) {
  const float cx = colour[0], cy = colour[1], cz = colour[2];
  const float *x = colours.x, *y = colours.y, *z = colours.z;
  for (ptrdiff_t i = 0; i < colours.count; ++i) {
    const float dx = x[i] - cx, dy = y[i] - cy, dz = z[i] - cz;
    const float square = dx * dx + dy * dy + dz * dz;
    nearer[i] = square < squares[i] ? square : squares[i];
  }
}

}  // namespace

const ClusterRows kClusterRows = {assign, approach};

}  // namespace melfast::MELFAST_NAMESPACE
