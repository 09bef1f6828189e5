// A face detector in one header: facekit @VERSION@, template @TEMPLATE@. C++17, no dependencies.
//
//   #include "facekit_@NAME@.hpp"
//   facekit::Detector detector;
//   for (const facekit::Face& face : detector.detect(bgr, width, height, step)) ...
//
// bgr: rows of blue, green, red bytes, as cv::Mat::data of CV_8UC3; step: bytes from a row to the next one.
// Protocol: @PROTOCOL@. Scores and boxes are facekit's.
// Vectors are chosen when it is compiled: g++ -O3 -march=native. -fopenmp lets threads share a picture. Don't compile with
// -ffast-math: numbers that are none would pass for faces.
// Weights have their makers' licence, see facekit's docs/licences.md; the code is Apache-2.0.
// facekit: @ABOUT@
#ifndef @GUARD@
#define @GUARD@

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <vector>

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__) || defined(_M_X64)
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace facekit {
namespace @NAME@ {

