// Clustering of colours: k-means++ seeds, Lloyd's iterations.
#pragma once

#include <cstddef>
#include <cstdint>

namespace melfast {

inline constexpr int kFewestClusters = 3, kMostClusters = 9;

struct Clustering {
  uint64_t seed;
  int attempts;    // number of seedings, of which the one with the lowest inertia is kept
  int iterations;  // at most
  double epsilon;  // converged when no centre moves farther than this
};

// One clustering; the first k places are used. An empty cluster has a count of
// 0 and a centre of NaN.
struct Clusters {
  double inertia;  // sum of the squared distances to the nearest centre
  float centres[3 * kMostClusters];
  int64_t counts[kMostClusters];
};

// Clusters `count` colours (three finite floats each, squares of distances below 3e38) into k =
// kFewestClusters .. kMostClusters; out[k - kFewestClusters] is the clustering into k. `repeats`
// says how often each colour occurs, once or more; null: once each. A pure function of its
// arguments: the same bits on any machine.
void cluster_colours(const float* colours, const int32_t* repeats, ptrdiff_t count,
                     const Clustering& how, Clusters* out);

// Mean shift: moves `colour` to the mean of the colours within `radius` of it, from there again,
// and so on until it moves no farther than `epsilon`, `iterations` times at most. Where none is
// within the radius, it stays.
void mean_shift(const float* colours, ptrdiff_t count, float radius, int iterations, double epsilon,
                float* colour);

}  // namespace melfast
