// Compiled once per instruction set, like rows.cpp: internal linkage, no C++ library template.
#include "cluster_rows.h"

#include "simd.h"

namespace melfast::MELFAST_NAMESPACE {
namespace {

constexpr float kFar = 3e38f;  // larger than the square of any allowed distance

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

// Eight sums side by side on every instruction set, so that all add in the same order.
typedef double D8 __attribute__((vector_size(64)));

double sum_of(const float* values, const double* repeats) {
  D8 sum = {};
  for (ptrdiff_t i = 0; i < kColourBlock; i += 8)
    sum += __builtin_convertvector(load<F8>(values + i), D8) * load<D8>(repeats + i);
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

void approach(const ColourPlanes& colours, const float* colour, const float* squares,
              float* __restrict nearer, double* __restrict sums) {
  const float cx = colour[0], cy = colour[1], cz = colour[2];
  for (ptrdiff_t at = 0; at < colours.count; at += kColourBlock) {
    const float *x = colours.x + at, *y = colours.y + at, *z = colours.z + at;
    float lesser[kColourBlock];
    for (ptrdiff_t i = 0; i < kColourBlock; ++i) {
      const float dx = x[i] - cx, dy = y[i] - cy, dz = z[i] - cz;
      const float square = dx * dx + dy * dy + dz * dz;
      lesser[i] = square < squares[at + i] ? square : squares[at + i];
    }
    for (ptrdiff_t i = 0; i < kColourBlock; ++i) nearer[at + i] = lesser[i];
    sums[at / kColourBlock] = sum_of(lesser, colours.repeats + at);
  }
}

}  // namespace

const ClusterRows kClusterRows = {assign, approach};

}  // namespace melfast::MELFAST_NAMESPACE
