// Frame selection: down-sampling and max-pooling in one (Vielzeuf et al. 2018, section 2.1, figure
// 2).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "occam/matrix_view.hpp"

namespace occam {

// The highest score of a frame, or nothing if any of its scores is NaN (or it has none).
inline std::optional<float> best_score(const MatrixView& scores, std::ptrdiff_t frame) {
  std::optional<float> best;
  for (std::ptrdiff_t category = 0; category < scores.columns; ++category) {
    const float score = scores(frame, category);
    if (std::isnan(score)) return std::nullopt;
    if (!best || score > *best) best = score;
  }
  return best;
}

// Indices, in rising order, of the frames to keep of `scores` (frames x categories).
//
// The frames are cut into `n` chunks, chunk i being [floor(i T / n), floor((i + 1) T / n)); of each
// the frame with the highest score over frames and categories is kept, of equals the first. A frame
// with a NaN is never kept, so a chunk of nothing else keeps none. With fewer frames than chunks
// every frame is kept but those.
inline std::vector<std::int64_t> select_frames(const MatrixView& scores, std::int64_t n) {
  const std::int64_t frames = scores.rows;
  const std::int64_t chunks = n < frames ? n : frames;
  std::vector<std::int64_t> kept;
  kept.reserve(static_cast<std::size_t>(chunks));
  // floor(i T / n) without the product, which could overflow: T = quotient n + remainder.
  const std::int64_t quotient = chunks > 0 ? frames / chunks : 0;
  const std::int64_t remainder = chunks > 0 ? frames % chunks : 0;
  const auto bound = [&](std::int64_t i) { return i * quotient + i * remainder / chunks; };
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    std::int64_t winner = -1;
    float highest = 0;
    for (std::int64_t frame = bound(chunk); frame < bound(chunk + 1); ++frame) {
      const std::optional<float> score = best_score(scores, static_cast<std::ptrdiff_t>(frame));
      if (score && (winner < 0 || *score > highest)) {
        winner = frame;
        highest = *score;
      }
    }
    if (winner >= 0) kept.push_back(winner);
  }
  return kept;
}

}  // namespace occam
