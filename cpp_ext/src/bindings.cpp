// The Python face of the headers: checks, views, and the GIL. The only file that knows pybind11.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "occam/detect.hpp"
#include "occam/matrix_view.hpp"
#include "occam/pool.hpp"
#include "occam/select.hpp"

namespace py = pybind11;

namespace {

std::string describe(const py::handle& value) {
  if (!py::isinstance<py::array>(value)) return py::str(py::type::of(value).attr("__name__"));
  const auto array = py::reinterpret_borrow<py::array>(value);
  return std::string(py::str(value.attr("shape"))) + " " + std::string(py::str(array.dtype()));
}

// A look at a float32 matrix of any strides; the caller's memory is only read.
occam::MatrixView view(const py::object& value, const char* name, const char* shape) {
  const std::string wanted =
      std::string(name) + ": expected " + shape + " float32, got " + describe(value);
  if (!py::isinstance<py::array>(value)) throw py::type_error(wanted);
  const auto array = py::reinterpret_borrow<py::array>(value);
  if (!array.dtype().equal(py::dtype::of<float>())) throw py::type_error(wanted);
  if (array.ndim() != 2) throw py::value_error(wanted);
  constexpr auto item = static_cast<py::ssize_t>(sizeof(float));
  const bool aligned = reinterpret_cast<std::uintptr_t>(array.data()) % alignof(float) == 0;
  if (!aligned || array.strides(0) % item != 0 || array.strides(1) % item != 0) {
    throw py::value_error(
        std::string(name) +
        ": its elements do not lie at float32 boundaries; pass np.ascontiguousarray(" + name + ")");
  }
  return {static_cast<const float*>(array.data()), array.shape(0), array.shape(1),
          array.strides(0) / item, array.strides(1) / item};
}

// Hands a vector's memory over to NumPy.
template <typename T>
py::array_t<T> owned(std::vector<T>&& values) {
  auto* kept = new std::vector<T>(std::move(values));
  const py::capsule owner(kept,
                          [](void* pointer) { delete static_cast<std::vector<T>*>(pointer); });
  return py::array_t<T>(static_cast<py::ssize_t>(kept->size()), kept->data(), owner);
}

void require_rows(const occam::MatrixView& embeddings) {
  if (embeddings.rows == 0) {
    throw py::value_error("embeddings: expected at least one frame to pool, got (0, " +
                          std::to_string(embeddings.columns) + ")");
  }
}

py::array_t<std::int64_t> select_frames(const py::object& scores, std::int64_t n) {
  const auto matrix = view(scores, "scores", "(T, C)");
  if (n < 1) throw py::value_error("n: expected at least 1 chunk, got " + std::to_string(n));
  std::vector<std::int64_t> kept;
  {
    const py::gil_scoped_release release;
    kept = occam::select_frames(matrix, n);
  }
  return owned(std::move(kept));
}

py::array_t<float> mean_pool(const py::object& embeddings) {
  const auto matrix = view(embeddings, "embeddings", "(T, D)");
  require_rows(matrix);
  std::vector<float> pooled;
  {
    const py::gil_scoped_release release;
    pooled = occam::mean_pool(matrix);
  }
  return owned(std::move(pooled));
}

py::array_t<float> sigmoid_weighted_pool(const py::object& embeddings,
                                         const py::object& valence_arousal,
                                         const std::vector<double>& weight, double bias) {
  const auto matrix = view(embeddings, "embeddings", "(T, D)");
  const auto mood = view(valence_arousal, "valence_arousal", "(T, 2)");
  require_rows(matrix);
  if (mood.columns != 2 || mood.rows != matrix.rows) {
    throw py::value_error("valence_arousal: expected (" + std::to_string(matrix.rows) +
                          ", 2) float32, got " + describe(valence_arousal));
  }
  if (weight.size() != 2) {
    throw py::value_error("weight: expected 2 numbers, for valence and arousal, got " +
                          std::to_string(weight.size()));
  }
  if (!std::isfinite(weight[0]) || !std::isfinite(weight[1]) || !std::isfinite(bias)) {
    throw py::value_error("weight, bias: expected finite numbers");
  }
  std::vector<float> pooled;
  {
    const py::gil_scoped_release release;
    pooled = occam::sigmoid_weighted_pool(matrix, mood, {weight[0], weight[1]}, bias);
  }
  return owned(std::move(pooled));
}

// A look at one picture's predictions of one stride.
occam::PredictionMap prediction_map(const py::handle& value, std::pair<double, double> stride) {
  const std::string wanted = "maps: expected (15, H, W) float32, got " + describe(value);
  if (!py::isinstance<py::array>(value)) throw py::type_error(wanted);
  const auto array = py::reinterpret_borrow<py::array>(value);
  if (!array.dtype().equal(py::dtype::of<float>())) throw py::type_error(wanted);
  if (array.ndim() != 3 || array.shape(0) != occam::kPredictions) throw py::value_error(wanted);
  const bool aligned = reinterpret_cast<std::uintptr_t>(array.data()) % alignof(float) == 0;
  if (!aligned || !(array.flags() & py::array::c_style)) {
    throw py::value_error("maps: not C-contiguous; pass np.ascontiguousarray of each");
  }
  for (const double side : {stride.first, stride.second}) {
    if (!(std::isfinite(side) && side > 0)) {
      throw py::value_error("strides: expected positive numbers, got " + std::to_string(side));
    }
  }
  return {static_cast<const float*>(array.data()), array.shape(1), array.shape(2),
          static_cast<float>(stride.first), static_cast<float>(stride.second)};
}

py::array_t<float> find_faces(const py::list& maps,
                              const std::vector<std::pair<double, double>>& strides,
                              double min_score, double max_overlap, double min_agreement) {
  if (maps.size() != strides.size()) {
    throw py::value_error("strides: expected one a map, got " + std::to_string(strides.size()) +
                          " for " + std::to_string(maps.size()));
  }
  if (!(min_score > 0 && min_score < 1)) {
    throw py::value_error("min_score: expected a number between 0 and 1, got " +
                          std::to_string(min_score));
  }
  for (const double share : {max_overlap, min_agreement}) {
    if (!(share >= 0 && share <= 1)) {
      throw py::value_error("max_overlap, min_agreement: expected 0 to 1, got " +
                            std::to_string(share));
    }
  }
  std::vector<occam::PredictionMap> views;
  for (std::size_t i = 0; i < maps.size(); ++i) {
    views.push_back(prediction_map(maps[i], strides[i]));
  }
  std::vector<occam::Detection> faces;
  {
    const py::gil_scoped_release release;
    faces = occam::merge(occam::decode(views, static_cast<float>(min_score)),
                         static_cast<float>(max_overlap), static_cast<float>(min_agreement));
  }
  py::array_t<float> rows({static_cast<py::ssize_t>(faces.size()), occam::kPredictions});
  float* out = rows.mutable_data();
  for (const occam::Detection& face : faces) {
    *out++ = face.score;
    out = std::copy(face.box.begin(), face.box.end(), out);
    out = std::copy(face.landmarks.begin(), face.landmarks.end(), out);
  }
  return rows;
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() = "Frame selection, pooling and the detector's decoding in C++; see _core.pyi.";
  module.def("select_frames", &select_frames, py::arg("scores"), py::arg("n"));
  module.def("mean_pool", &mean_pool, py::arg("embeddings"));
  module.def("sigmoid_weighted_pool", &sigmoid_weighted_pool, py::arg("embeddings"),
             py::arg("valence_arousal"), py::arg("weight"), py::arg("bias"));
  module.def("find_faces", &find_faces, py::arg("maps"), py::arg("strides"), py::arg("min_score"),
             py::arg("max_overlap"), py::arg("min_agreement"));
}
