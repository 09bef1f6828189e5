// Finds the faces of a binary PPM picture (P6), and prints a line a face: left top right bottom score, then five points.
//   convert photo.jpg photo.ppm; ./faces photo.ppm

#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "facekit_@NAME@.hpp"

struct Image {
  int width = 0, height = 0;
  std::vector<unsigned char> bgr;
};

static Image read_ppm(const char* path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  Image image;
  int most = 0;
  if (!(file >> kind >> image.width >> image.height >> most) || kind != "P6" || most != 255 || image.width < 1 ||
      image.height < 1 || image.width > 20000 || image.height > 20000)
    throw std::runtime_error(std::string(path) + ": not a PPM picture (P6, 8 bits, without comments)");
  file.get();
  image.bgr.resize(std::size_t(image.width) * std::size_t(image.height) * 3);
  if (!file.read(reinterpret_cast<char*>(image.bgr.data()), std::streamsize(image.bgr.size())))
    throw std::runtime_error(std::string(path) + ": ends too early");
  for (std::size_t i = 0; i < image.bgr.size(); i += 3) std::swap(image.bgr[i], image.bgr[i + 2]);  // it holds R, G, B
  return image;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: faces PICTURE.ppm\n");
    return 2;
  }
  try {
    const Image image = read_ppm(argv[1]);
    facekit::Detector detector;
    detector.score_threshold = 0.5f;
    for (const facekit::Face& face : detector.detect(image.bgr.data(), image.width, image.height)) {
      std::printf("%.1f %.1f %.1f %.1f %.3f", double(face.x1), double(face.y1), double(face.x2), double(face.y2),
                  double(face.score));
      if (facekit::Detector::has_landmarks)
        for (const auto& point : face.landmarks) std::printf(" %.1f %.1f", double(point[0]), double(point[1]));
      std::printf("\n");
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
