// A read-only look at a matrix that somebody else owns.
#pragma once

#include <cstddef>

namespace occam {

// Element (r, c) lies at data[r * row_stride + c * column_stride]; strides count elements and may
// be zero or negative, as NumPy's may.
struct MatrixView {
  const float* data;
  std::ptrdiff_t rows;
  std::ptrdiff_t columns;
  std::ptrdiff_t row_stride;
  std::ptrdiff_t column_stride;

  float operator()(std::ptrdiff_t row, std::ptrdiff_t column) const {
    return data[row * row_stride + column * column_stride];
  }
};

}  // namespace occam
