// What an exported header promises of memory, checked: built with sanitizers by the tests and by tools/verify_header.py.
//   g++ -std=c++17 -fsanitize=address,undefined -DHEADER='"facekit_yunet_n.hpp"' header_check.cpp && ./a.out 10000

#include HEADER

#include <cstdio>
#include <cstdlib>
#include <string>

static long allocations = 0;

static void* taken(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  void* memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (!memory) throw std::bad_alloc();
  return memory;
}
void* operator new(std::size_t bytes) { return taken(bytes, alignof(std::max_align_t)); }
void* operator new[](std::size_t bytes) { return taken(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) { return taken(bytes, std::size_t(alignment)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

static int failures = 0;

static void check(bool holds, const char* what) {
  if (!holds) {
    std::printf("failed: %s\n", what);
    ++failures;
  }
}

// Exactly the bytes that detect() may read: the last row ends with its last pixel.
static std::vector<unsigned char> noise(int width, int height, std::ptrdiff_t step) {
  std::vector<unsigned char> bytes(std::size_t(step) * std::size_t(height - 1) + 3 * std::size_t(width));
  unsigned seed = 1;
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>((seed = seed * 1664525u + 1013904223u) >> 24);
  return bytes;
}

template <class Call>
static bool refuses(const Call& call) {
  try {
    call();
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

static long resident_kib() {
  long pages = 0, resident = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
    std::fclose(file);
  }
  return resident * 4;
}

int main(int argc, char** argv) {
  const int calls = argc > 1 ? std::atoi(argv[1]) : 100;
  facekit::Detector detector;
  std::vector<facekit::Face> faces;
  faces.reserve(100000);

  const int sizes[][2] = {{1, 1}, {2, 3}, {33, 17}, {64, 64}, {131, 97}, {1, 200}, {333, 251}};
  for (const auto& size : sizes) {
    const std::ptrdiff_t step = 3 * size[0] + 5;
    const auto bytes = noise(size[0], size[1], step);
    const long before = allocations;
    detector.score_threshold = 0.0f;  // all priors: as many boxes as there can be
    detector.detect(bytes.data(), size[0], size[1], step, faces);
    check(allocations == before + 1, "one allocation for a size of picture");
    const std::size_t count = faces.size();
    check(count > 0, "at threshold 0 there are boxes");
    detector.detect(bytes.data(), size[0], size[1], step, faces);
    check(allocations == before + 1 && faces.size() == count, "none for the next picture, and the same boxes");
    for (const facekit::Face& face : faces) check(face.x2 >= face.x1 && face.y2 >= face.y1, "boxes are boxes");
    detector.score_threshold = 1.0f;
    detector.detect(bytes.data(), size[0], size[1], step, faces);
    check(faces.empty(), "at threshold 1 there are none");
  }

  unsigned char pixel[3] = {1, 2, 3};
  check(detector.detect(pixel, 0, 0).empty() && detector.detect(nullptr, 0, 5).empty(), "an empty picture has no faces");
  check(refuses([&] { detector.detect(nullptr, 1, 1); }), "no null picture");
  check(refuses([&] { detector.detect(pixel, 1, 1, 2); }), "no step that is too short");
  check(refuses([&] { detector.detect(pixel, 1 << 20, 1 << 20); }), "no picture without bounds");

  detector.score_threshold = 0.02f;
  const auto bytes = noise(48, 40, 144);
  detector.detect(bytes.data(), 48, 40, 0, faces);
  const long warm_kib = resident_kib(), before = allocations;
  for (int call = 0; call < calls; ++call) detector.detect(bytes.data(), 48, 40, 0, faces);
  check(allocations == before, "no call takes memory");
  check(resident_kib() - warm_kib < 1024, "no growth");
  std::printf("%s: %d calls, %ld KiB resident, %ld before\n", failures ? "FAILED" : "ok", calls, resident_kib(), warm_kib);
  return failures ? 1 : 0;
}
