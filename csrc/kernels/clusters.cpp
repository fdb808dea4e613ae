#include "clusters.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cluster_rows.h"
#include "dispatch.h"
#include "scratch.h"

namespace melfast {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Number of candidates for each seed, of which the best is kept, as in the greedy k-means++ of
// OpenCV and scikit-learn.
constexpr int kTrials = 3;

const ClusterRows& cluster_rows() {
  static const ClusterRows* const builds[] = MELFAST_BUILDS(kClusterRows);
  return *builds[instruction_set()];
}

// splitmix64 (Steele, Lea and Flood 2014): the standard library's distributions differ between
// libraries.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  // Uniform in 0 <= u < 1.
  double next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
  }

 private:
  uint64_t state_;
};

double sum_of(const double* values, ptrdiff_t count) {
  double sum = 0;
  for (ptrdiff_t i = 0; i < count; ++i) sum += values[i];
  return sum;
}

// Squared distances to the nearest seed, and their sum in each block.
struct Nearest {
  float* squares;
  double* sums;
};

class Clusterer {
 public:
  Clusterer(const float* colours, const int32_t* repeats, ptrdiff_t count)
      : colours_(colours), count_(count), blocks_((count + kColourBlock - 1) / kColourBlock) {
    const ptrdiff_t padded = blocks_ * kColourBlock;
    Scratch& s = scratch();
    float* planes = grow(s.colour_planes, 3 * padded);
    float *x = planes, *y = planes + padded, *z = planes + 2 * padded;
    double* times = grow(s.repeats, padded);
    for (ptrdiff_t i = 0; i < padded; ++i) {
      const float* colour = colours + 3 * std::min(i, count - 1);
      x[i] = colour[0], y[i] = colour[1], z[i] = colour[2];
      times[i] = i >= count ? 0 : repeats ? repeats[i] : 1;
    }
    planes_ = {x, y, z, times, padded};
    labels_ = grow(s.labels, padded);
    float* squares = grow(s.squares, 3 * padded);
    double* sums = grow(s.block_sums, 3 * blocks_);
    for (Nearest* nearest : {&now_, &trial_, &best_}) {
      *nearest = {squares, sums};
      squares += padded, sums += blocks_;
    }
  }

  // k-means++ (Arthur and Vassilvitskii 2007).
  void seed(int k, Random& random, float* seeds) {
    std::fill_n(now_.squares, planes_.count, 1.0f);
    for (ptrdiff_t j = 0; j < blocks_; ++j)
      now_.sums[j] = sum_of(planes_.repeats + j * kColourBlock, kColourBlock);
    std::copy_n(draw(random, sum_of(now_.sums, blocks_)), 3, seeds);
    std::fill_n(now_.squares, planes_.count, std::numeric_limits<float>::infinity());
    cluster_rows().approach(planes_, seeds, now_.squares, best_.squares, best_.sums);
    for (int c = 1; c < k; ++c) {
      std::swap(now_, best_);
      const double total = sum_of(now_.sums, blocks_);
      if (total > 0)
        choose_seed(random, total, seeds + 3 * c);
      else
        std::fill_n(seeds + 3 * c, 3, kNaN);
    }
  }

  // From the seeds in out.centres.
  void lloyd(int k, const Clustering& how, Clusters& out) {
    for (int step = 0; step < how.iterations; ++step) {
      assign(k, out);
      if (move_centres(k, out) <= how.epsilon) break;
    }
    assign(k, out);
    out.inertia = 0;
    for (ptrdiff_t i = 0; i < count_; ++i)
      out.inertia += static_cast<double>(now_.squares[i]) * planes_.repeats[i];
    for (int c = 0; c < k; ++c)
      if (out.counts[c] == 0) std::fill_n(out.centres + 3 * c, 3, kNaN);
  }

 private:
  // The candidate with the lowest inertia; best_ holds the distances after it.
  void choose_seed(Random& random, double total, float* seed) {
    double least = std::numeric_limits<double>::infinity();
    for (int trial = 0; trial < kTrials; ++trial) {
      const float* colour = draw(random, total);
      cluster_rows().approach(planes_, colour, now_.squares, trial_.squares, trial_.sums);
      const double inertia = sum_of(trial_.sums, blocks_);
      if (inertia >= least) continue;
      least = inertia;
      std::copy_n(colour, 3, seed);
      std::swap(trial_, best_);
    }
  }

  // Draws a colour with a probability proportional to its part of now_.
  const float* draw(Random& random, double total) const {
    double share = random.next() * total;
    ptrdiff_t block = 0;
    while (block + 1 < blocks_ && share >= now_.sums[block]) share -= now_.sums[block++];
    // Rounding may overshoot the block: then the last colour with a probability above 0.
    while (block > 0 && now_.sums[block] == 0) --block;
    ptrdiff_t chosen = 0;
    for (ptrdiff_t i = block * kColourBlock; i < std::min((block + 1) * kColourBlock, count_);
         ++i) {
      const double chance = static_cast<double>(now_.squares[i]) * planes_.repeats[i];
      if (chance > 0) chosen = i;
      if ((share -= chance) < 0) break;
    }
    return colours_ + 3 * chosen;
  }

  void assign(int k, Clusters& out) {
    cluster_rows().assign(planes_, out.centres, k, labels_, now_.squares);
    std::fill_n(out.counts, k, 0);
    for (ptrdiff_t i = 0; i < count_; ++i)
      out.counts[labels_[i]] += static_cast<int64_t>(planes_.repeats[i]);
  }

  // Moves every centre to the mean of its colours; returns the largest move.
  double move_centres(int k, Clusters& out) {
    double sums[kMostClusters][3] = {};
    for (ptrdiff_t i = 0; i < count_; ++i) {
      double* sum = sums[labels_[i]];
      for (int j = 0; j < 3; ++j)
        sum[j] += static_cast<double>(colours_[3 * i + j]) * planes_.repeats[i];
    }
    double most = 0;
    for (int c = 0; c < k; ++c) {
      float* centre = out.centres + 3 * c;
      if (out.counts[c] == 0) {
        if (!std::isnan(centre[0]) && revive(centre))
          most = std::numeric_limits<double>::infinity();
        continue;
      }
      double square = 0;
      for (int j = 0; j < 3; ++j) {
        const auto mean = static_cast<float>(sums[c][j] / static_cast<double>(out.counts[c]));
        const double step = static_cast<double>(mean) - static_cast<double>(centre[j]);
        square += step * step;
        centre[j] = mean;
      }
      most = std::max(most, square);
    }
    return std::sqrt(most);
  }

  // Moves a centre without colours to the colour that is farthest from any centre, once.
  bool revive(float* centre) {
    float* farthest = std::max_element(now_.squares, now_.squares + count_);
    if (*farthest == 0) return false;
    *farthest = 0;
    std::copy_n(colours_ + 3 * (farthest - now_.squares), 3, centre);
    return true;
  }

  const float* colours_;
  ptrdiff_t count_, blocks_;
  ColourPlanes planes_;
  int32_t* labels_;
  Nearest now_, trial_, best_;
};

}  // namespace

void cluster_colours(const float* colours, const int32_t* repeats, ptrdiff_t count,
                     const Clustering& how, Clusters* out) {
  for (int k = kFewestClusters; k <= kMostClusters; ++k) {
    Clusters& none = out[k - kFewestClusters];
    none.inertia = count ? std::numeric_limits<double>::infinity() : 0;
    std::fill(std::begin(none.centres), std::end(none.centres), kNaN);
    std::fill(std::begin(none.counts), std::end(none.counts), 0);
  }
  if (count == 0) return;
  Clusterer clusterer(colours, repeats, count);
  Random random(how.seed);
  for (int attempt = 0; attempt < how.attempts; ++attempt) {
    for (int k = kFewestClusters; k <= kMostClusters; ++k) {
      Clusters& best = out[k - kFewestClusters];
      Clusters found = best;
      clusterer.seed(k, random, found.centres);
      clusterer.lloyd(k, how, found);
      if (found.inertia < best.inertia) best = found;
    }
  }
}

void mean_shift(const float* colours, ptrdiff_t count, float radius, int iterations, double epsilon,
                float* colour) {
  for (int step = 0; step < iterations; ++step) {
    double sum[3] = {};
    ptrdiff_t near = 0;
    for (ptrdiff_t i = 0; i < count; ++i) {
      const float* other = colours + 3 * i;
      const float dx = other[0] - colour[0], dy = other[1] - colour[1], dz = other[2] - colour[2];
      // Weights of 0 and 1, because a branch would be mispredicted at every other pixel.
      const bool within = dx * dx + dy * dy + dz * dz <= radius * radius;
      near += within;
      for (int j = 0; j < 3; ++j) sum[j] += within ? static_cast<double>(other[j]) : 0;
    }
    if (near == 0) return;
    double square = 0;
    for (int j = 0; j < 3; ++j) {
      const auto mean = static_cast<float>(sum[j] / static_cast<double>(near));
      const double moved = static_cast<double>(mean) - static_cast<double>(colour[j]);
      square += moved * moved;
      colour[j] = mean;
    }
    if (std::sqrt(square) <= epsilon) return;
  }
}

}  // namespace melfast
