// The header behind a C interface: what facekit calls to run it. Nothing else is seen from outside: of two headers in one
// process each must have its own weights, which g++ would make one of by their name.

#include <cstring>

using FacekitDetector = facekit::Detector;

#pragma GCC visibility push(default)
extern "C" {

void* facekit_open(int threads) {
  try {
    return new FacekitDetector(threads);
  } catch (...) {
    return nullptr;
  }
}

void facekit_close(void* detector) { delete static_cast<FacekitDetector*>(detector); }

// How many priors a picture has; -1 where it can't be looked at. Null boxes: they are counted alone.
long long facekit_priors(void* detector, const std::uint8_t* bgr, int width, int height, float* boxes, float* scores,
                         float* landmarks) {
  try {
    return static_cast<long long>(
        static_cast<FacekitDetector*>(detector)->priors(bgr, width, height, 0, boxes, scores, landmarks));
  } catch (...) {
    return -1;
  }
}

// Rows of 15 numbers a face: box, score, points. Returns how many there are, of which `most` are written.
long long facekit_detect(void* detector, const std::uint8_t* bgr, int width, int height, long long step,
                         float* rows, long long most) {
  try {
    const auto faces = static_cast<FacekitDetector*>(detector)->detect(bgr, width, height, std::ptrdiff_t(step));
    static_assert(sizeof(facekit::Face) == 15 * sizeof(float), "a face is fifteen numbers");
    const std::size_t count = std::min(faces.size(), std::size_t(most));
    if (count) std::memcpy(rows, faces.data(), count * sizeof(facekit::Face));
    return static_cast<long long>(faces.size());
  } catch (...) {
    return -1;
  }
}

const char* facekit_vectors() { return facekit::FACEKIT_NAME::kVectors; }
}
#pragma GCC visibility pop
