// Clustering of colours.
#include "clusters.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "arguments.h"

namespace melfast::bindings {
namespace {

using Repeats = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;

// Squares of distances between such coordinates stay below the largest float32.
constexpr float kLargest = 1e18f;

py::array_t<float, py::array::c_style | py::array::forcecast> colours_of(const py::object& object,
                                                                         const std::string& name) {
  const py::array given = as_array(object, name);
  if (!py::isinstance<py::array_t<float>>(given))
    throw py::type_error(name + " must be float32, got " + std::string(py::str(given.dtype())));
  if (given.ndim() != 2 || given.shape(1) != 3)
    throw py::value_error(name + " must have shape (count, 3), got " + shape_of(given));
  auto colours = py::array_t<float, py::array::c_style | py::array::forcecast>::ensure(given);
  if (!colours) throw py::error_already_set();
  const float *begin = colours.data(), *end = begin + colours.size();
  const float* bad = std::find_if(begin, end, [](float v) { return !(std::abs(v) <= kLargest); });
  if (bad != end)
    throw py::value_error(name + " must be finite and at most 1e18, got " +
                          std::string(py::str(py::float_(*bad))) + " in row " +
                          std::to_string((bad - begin) / 3));
  return colours;
}

// int32 [count], each at least 1, or None.
std::optional<Repeats> repeats_of(const py::object& object, ptrdiff_t count) {
  if (object.is_none()) return std::nullopt;
  const py::array given = as_array(object, "repeats");
  if (!py::isinstance<py::array_t<int32_t>>(given))
    throw py::type_error("repeats must be int32, got " + std::string(py::str(given.dtype())));
  if (given.ndim() != 1 || given.shape(0) != count)
    throw py::value_error("repeats must have shape (" + std::to_string(count) +
                          ",), one for each colour, got " + shape_of(given));
  auto repeats = Repeats::ensure(given);
  if (!repeats) throw py::error_already_set();
  const int32_t* least = std::min_element(repeats.data(), repeats.data() + count);
  if (count && *least < 1)
    throw py::value_error("repeats must be at least 1, got " + std::to_string(*least));
  return repeats;
}

void check_steps(int iterations, double epsilon) {
  if (iterations < 1)
    throw py::value_error("iterations must be at least 1, got " + std::to_string(iterations));
  if (!(epsilon >= 0))
    throw py::value_error("epsilon must be at least 0, got " +
                          std::string(py::str(py::float_(epsilon))));
}

Clustering clustering_of(uint64_t seed, int attempts, int iterations, double epsilon) {
  if (attempts < 1)
    throw py::value_error("attempts must be at least 1, got " + std::to_string(attempts));
  check_steps(iterations, epsilon);
  return {seed, attempts, iterations, epsilon};
}

py::tuple cluster_colours(const py::object& object, const py::object& repeated, uint64_t seed,
                          int attempts, int iterations, double epsilon) {
  const auto colours = colours_of(object, "colours");
  const auto repeats = repeats_of(repeated, colours.shape(0));
  const Clustering how = clustering_of(seed, attempts, iterations, epsilon);
  constexpr int kKinds = kMostClusters - kFewestClusters + 1;
  Clusters found[kKinds];
  const float* data = colours.data();
  const int32_t* times = repeats ? repeats->data() : nullptr;
  const ptrdiff_t count = colours.shape(0);
  {
    const py::gil_scoped_release release;
    melfast::cluster_colours(data, times, count, how, found);
  }
  py::array_t<double> inertias(kKinds);
  py::list centres, counts;
  for (int i = 0; i < kKinds; ++i) {
    const ptrdiff_t k = kFewestClusters + i;
    inertias.mutable_data()[i] = found[i].inertia;
    centres.append(py::array_t<float>({k, ptrdiff_t{3}}, found[i].centres));
    counts.append(py::array_t<int64_t>(k, found[i].counts));
  }
  return py::make_tuple(inertias, centres, counts);
}

py::array_t<float> mean_shift(const py::object& object, const py::object& start, float radius,
                              int iterations, double epsilon) {
  const auto colours = colours_of(object, "colours");
  const auto from = colours_of(start, "start");
  if (from.shape(0) != 1)
    throw py::value_error("start must be one colour, got " + std::to_string(from.shape(0)));
  if (!(radius >= 0 && radius <= kLargest))
    throw py::value_error("radius must be within 0..1e18, got " +
                          std::string(py::str(py::float_(radius))));
  check_steps(iterations, epsilon);
  py::array_t<float> colour(3);
  float* moved = colour.mutable_data();
  std::copy_n(from.data(), 3, moved);
  const float* data = colours.data();
  const ptrdiff_t count = colours.shape(0);
  {
    const py::gil_scoped_release release;
    melfast::mean_shift(data, count, radius, iterations, epsilon, moved);
  }
  return colour;
}

}  // namespace

void bind_clusters(py::module_& m) {
  m.def("cluster_colours", &cluster_colours, py::arg("colours"), py::arg("repeats") = py::none(),
        py::kw_only(), py::arg("seed") = 0, py::arg("attempts") = 1, py::arg("iterations") = 100,
        py::arg("epsilon") = 0.2,
        R"(k-means of colours for every k of 3..9: k-means++ seeds, then Lloyd's iterations.

A pure function of its arguments: the same bits on any machine and thread.

Args:
    colours: float32 [N, 3], finite and at most 1e18; N may be 0.
    repeats: int32 [N], how often each colour occurs, once or more; None: once each.
    seed: of the k-means++ draws, 0..2**64 - 1.
    attempts: seedings, of which each k keeps the one that ends with the least inertia.
    iterations: at most so many of Lloyd's.
    epsilon: converged when no centre moves farther than this.
Returns:
    inertias float64 [7], sums of squared distances to the nearest centre; and for each k a float32
    [k, 3] of centres and an int64 [k] of counts (repeats counted). Where there are fewer different colours than k,
    clusters are left with a count of 0 and a centre of NaN.
Raises:
    TypeError, ValueError: the dtype, shape, a colour or a setting does not fit.)");

  m.def("mean_shift", &mean_shift, py::arg("colours"), py::arg("start"), py::arg("radius"),
        py::kw_only(), py::arg("iterations") = 20, py::arg("epsilon") = 0.05,
        R"(The colour near a start where colours are densest: mean shift with a flat kernel.

Moves to the mean of the colours within the radius, again and again. The same bits on any machine.

Args:
    colours: float32 [N, 3], finite and at most 1e18; N may be 0.
    start: float32 [1, 3].
    radius: 0..1e18, in the units of the colours.
    iterations: at most so many moves.
    epsilon: it ends with a move no farther than this.
Returns:
    float32 [3]; the start where no colour is within the radius of it.
Raises:
    TypeError, ValueError: as cluster_colours.)");
}

}  // namespace melfast::bindings
