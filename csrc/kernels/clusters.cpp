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

// Candidates for each seed, of which the best is kept: k-means++ is greedy so in OpenCV and
// scikit-learn too.
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

// The sum of values[i] * repeats[i], in four interleaved parts, so that an addition need not wait
// for the one before.
double sum_of(const float* values, const double* repeats, ptrdiff_t count) {
  double parts[4] = {};
  ptrdiff_t i = 0;
  for (; i + 4 <= count; i += 4)
    for (int j = 0; j < 4; ++j) parts[j] += static_cast<double>(values[i + j]) * repeats[i + j];
  for (; i < count; ++i) parts[0] += static_cast<double>(values[i]) * repeats[i];
  return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

// The first index at which the running sum of values[i] * repeats[i] passes `share`; the last that
// counts where rounding keeps the sum below it.
ptrdiff_t index_at(const float* values, const double* repeats, ptrdiff_t count, double share) {
  ptrdiff_t last = 0;
  for (ptrdiff_t i = 0; i < count; ++i) {
    if (values[i] <= 0) continue;
    last = i;
    share -= static_cast<double>(values[i]) * repeats[i];
    if (share < 0) break;
  }
  return last;
}

class Clusterer {
 public:
  Clusterer(const float* colours, const int32_t* repeats, ptrdiff_t count)
      : colours_(colours),
        count_(count),
        padded_((count + kColourBlock - 1) / kColourBlock * kColourBlock) {
    Scratch& s = scratch();
    float* planes = grow(s.colour_planes, 3 * padded_);
    float *x = planes, *y = planes + padded_, *z = planes + 2 * padded_;
    for (ptrdiff_t i = 0; i < padded_; ++i) {
      const float* colour = colours + 3 * std::min(i, count - 1);
      x[i] = colour[0], y[i] = colour[1], z[i] = colour[2];
    }
    planes_ = {x, y, z, padded_};
    repeats_ = grow(s.repeats, count);
    for (ptrdiff_t i = 0; i < count; ++i) repeats_[i] = repeats ? repeats[i] : 1;
    labels_ = grow(s.labels, padded_);
    squares_ = grow(s.squares, padded_);
    nearer_ = grow(s.nearer, padded_);
    nearest_ = grow(s.nearest, padded_);
  }

  // k-means++ (Arthur and Vassilvitskii 2007).
  void seed(int k, Random& random, float* seeds) {
    std::fill_n(squares_, padded_, 1.0f);
    const double all = sum_of(squares_, repeats_, count_);
    const ptrdiff_t first = index_at(squares_, repeats_, count_, random.next() * all);
    std::copy_n(colours_ + 3 * first, 3, seeds);
    std::fill_n(squares_, padded_, std::numeric_limits<float>::infinity());
    cluster_rows().approach(planes_, seeds, squares_, nearest_);
    for (int c = 1; c < k; ++c) {
      std::swap(squares_, nearest_);
      const double total = sum_of(squares_, repeats_, count_);
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
    out.inertia = sum_of(squares_, repeats_, count_);
    for (int c = 0; c < k; ++c)
      if (out.counts[c] == 0) std::fill_n(out.centres + 3 * c, 3, kNaN);
  }

 private:
  // The candidate that leaves the least inertia; nearest_ becomes the squares with it.
  void choose_seed(Random& random, double total, float* seed) {
    double least = std::numeric_limits<double>::infinity();
    for (int trial = 0; trial < kTrials; ++trial) {
      const float* colour =
          colours_ + 3 * index_at(squares_, repeats_, count_, random.next() * total);
      cluster_rows().approach(planes_, colour, squares_, nearer_);
      const double inertia = sum_of(nearer_, repeats_, count_);
      if (inertia >= least) continue;
      least = inertia;
      std::copy_n(colour, 3, seed);
      std::swap(nearer_, nearest_);
    }
  }

  void assign(int k, Clusters& out) {
    cluster_rows().assign(planes_, out.centres, k, labels_, squares_);
    std::fill_n(out.counts, k, 0);
    for (ptrdiff_t i = 0; i < count_; ++i)
      out.counts[labels_[i]] += static_cast<int64_t>(repeats_[i]);
  }

  // Puts every centre into the mean of its colours; returns how far the one moved that moved most.
  double move_centres(int k, Clusters& out) {
    double sums[kMostClusters][3] = {};
    for (ptrdiff_t i = 0; i < count_; ++i) {
      double* sum = sums[labels_[i]];
      for (int j = 0; j < 3; ++j) sum[j] += static_cast<double>(colours_[3 * i + j]) * repeats_[i];
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

  // Puts a centre that lost all its colours on the colour that is farthest from any centre, once.
  bool revive(float* centre) {
    float* farthest = std::max_element(squares_, squares_ + count_);
    if (*farthest == 0) return false;
    *farthest = 0;
    std::copy_n(colours_ + 3 * (farthest - squares_), 3, centre);
    return true;
  }

  const float* colours_;
  ptrdiff_t count_, padded_;
  ColourPlanes planes_;
  double* repeats_;
  int32_t* labels_;
  float *squares_, *nearer_, *nearest_;
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

}  // namespace melfast
