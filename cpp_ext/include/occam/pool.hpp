// Temporal pooling of frame embeddings into one (Vielzeuf et al. 2018, section 2.1).
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "occam/matrix_view.hpp"

namespace occam {

// Mean of the rows of `embeddings` (frames x dimensions), weighted by `weight_of(frame)`. Sums are
// kept in double, so that the order of the frames does not show in a float result.
//
// There must be at least one row, and the weights must not sum to zero.
template <typename Weight>
std::vector<float> weighted_mean(const MatrixView& embeddings, Weight weight_of) {
  std::vector<double> sum(static_cast<std::size_t>(embeddings.columns), 0.0);
  double total = 0.0;
  for (std::ptrdiff_t frame = 0; frame < embeddings.rows; ++frame) {
    const double weight = weight_of(frame);
    total += weight;
    for (std::ptrdiff_t d = 0; d < embeddings.columns; ++d) {
      sum[static_cast<std::size_t>(d)] += weight * embeddings(frame, d);
    }
  }
  std::vector<float> mean(sum.size());
  for (std::size_t d = 0; d < sum.size(); ++d) mean[d] = static_cast<float>(sum[d] / total);
  return mean;
}

inline std::vector<float> mean_pool(const MatrixView& embeddings) {
  return weighted_mean(embeddings, [](std::ptrdiff_t) { return 1.0; });
}

// The weight of a frame is sigmoid(weight . (valence, arousal) + bias), regressed jointly with the
// classifier in training. The sigmoids are divided by the largest of them before they are summed,
// which changes no mean and keeps weights that would all round to zero apart.
inline std::vector<float> sigmoid_weighted_pool(const MatrixView& embeddings,
                                                const MatrixView& valence_arousal,
                                                std::array<double, 2> weight, double bias) {
  std::vector<double> log_sigmoid(static_cast<std::size_t>(embeddings.rows));
  double highest = -HUGE_VAL;
  for (std::ptrdiff_t frame = 0; frame < embeddings.rows; ++frame) {
    const double x =
        weight[0] * valence_arousal(frame, 0) + weight[1] * valence_arousal(frame, 1) + bias;
    const double value = x < 0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x));
    log_sigmoid[static_cast<std::size_t>(frame)] = value;
    if (value > highest) highest = value;
  }
  return weighted_mean(embeddings, [&](std::ptrdiff_t frame) {
    return std::exp(log_sigmoid[static_cast<std::size_t>(frame)] - highest);
  });
}

}  // namespace occam
