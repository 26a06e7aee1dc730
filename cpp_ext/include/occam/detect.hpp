// From the maps of the face detector to faces: decoding and non-maximum suppression.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

namespace occam {

// A logit, the box's centre x y and its width and height, five landmarks x y.
constexpr std::ptrdiff_t kPredictions = 15;

// A read-only look at what the network says of every cell of one stride: (15, rows, columns), each
// plane's cells side by side.
struct PredictionMap {
  const float* data;
  std::ptrdiff_t rows;
  std::ptrdiff_t columns;
  float stride_x;  // pixels from one cell to the next, across
  float stride_y;  // and down

  float operator()(std::ptrdiff_t prediction, std::ptrdiff_t cell) const {
    return data[prediction * rows * columns + cell];
  }
};

struct Detection {
  float score;
  std::array<float, 4> box;         // left, top, right, bottom in pixels
  std::array<float, 10> landmarks;  // x y of each, in pixels
};

// The cells that score more than `min_score`, which is in (0, 1), in order of the maps. Distances
// are in strides from the middle of the cell, width and height are logarithms. A cell with a
// number that is not finite is none.
inline std::vector<Detection> decode(const std::vector<PredictionMap>& maps, float min_score) {
  const float min_logit = std::log(min_score) - std::log1p(-min_score);
  std::vector<Detection> found;
  for (const PredictionMap& map : maps) {
    for (std::ptrdiff_t cell = 0; cell < map.rows * map.columns; ++cell) {
      const float logit = map(0, cell);
      if (!(logit > min_logit)) continue;
      const float x = (static_cast<float>(cell % map.columns) + 0.5f) * map.stride_x;
      const float y = (static_cast<float>(cell / map.columns) + 0.5f) * map.stride_y;
      const float centre_x = x + map(1, cell) * map.stride_x;
      const float centre_y = y + map(2, cell) * map.stride_y;
      const float half_width = std::exp(map(3, cell)) * map.stride_x / 2;
      const float half_height = std::exp(map(4, cell)) * map.stride_y / 2;
      Detection one{1 / (1 + std::exp(-logit)),
                    {centre_x - half_width, centre_y - half_height, centre_x + half_width,
                     centre_y + half_height},
                    {}};
      bool finite = true;
      for (std::size_t i = 0; i < 10; ++i) {
        one.landmarks[i] = (i % 2 ? y : x) + map(static_cast<std::ptrdiff_t>(5 + i), cell) *
                                                 (i % 2 ? map.stride_y : map.stride_x);
        finite = finite && std::isfinite(one.landmarks[i]);
      }
      for (const float side : one.box) finite = finite && std::isfinite(side);
      if (finite) found.push_back(one);
    }
  }
  return found;
}

// Of two boxes, in [0, 1].
inline float intersection_over_union(const std::array<float, 4>& a, const std::array<float, 4>& b) {
  const float width = std::min(a[2], b[2]) - std::max(a[0], b[0]);
  const float height = std::min(a[3], b[3]) - std::max(a[1], b[1]);
  if (!(width > 0 && height > 0)) return 0;
  const float common = width * height;
  const float both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]);
  return common / (both - common);
}

// One detection a face, the most confident first; of equals, the one that came first.
//
// What overlaps a better one by more than `max_overlap` is the same face. Where it was seen by
// several cells is the mean of those that overlap the best by at least `min_agreement`, weighted by
// their scores: one cell alone lets landmarks tremble from frame to frame (Bazarevsky et al. 2019).
inline std::vector<Detection> merge(std::vector<Detection> found, float max_overlap,
                                    float min_agreement) {
  std::stable_sort(found.begin(), found.end(),
                   [](const Detection& a, const Detection& b) { return a.score > b.score; });
  std::vector<bool> taken(found.size(), false);
  std::vector<Detection> faces;
  for (std::size_t best = 0; best < found.size(); ++best) {
    if (taken[best]) continue;
    std::array<double, 14> sum{};
    double total = 0;
    for (std::size_t other = best; other < found.size(); ++other) {
      if (taken[other]) continue;
      const bool itself = other == best;
      const float overlap =
          itself ? 1.0f : intersection_over_union(found[best].box, found[other].box);
      if (!itself && overlap <= max_overlap) continue;
      taken[other] = true;
      if (!itself && overlap < min_agreement) continue;
      const double weight = found[other].score;
      total += weight;
      for (std::size_t i = 0; i < 4; ++i) sum[i] += weight * found[other].box[i];
      for (std::size_t i = 0; i < 10; ++i) sum[4 + i] += weight * found[other].landmarks[i];
    }
    Detection face{found[best].score, {}, {}};
    for (std::size_t i = 0; i < 4; ++i) face.box[i] = static_cast<float>(sum[i] / total);
    for (std::size_t i = 0; i < 10; ++i) face.landmarks[i] = static_cast<float>(sum[4 + i] / total);
    faces.push_back(face);
  }
  return faces;
}

}  // namespace occam
