// ---- Vectors: the widest that the compiler was told of, one name for all. ----

#if defined(FACEKIT_PLAIN)
#define FACEKIT_LANES 4
#elif defined(__AVX512F__)
#define FACEKIT_LANES 16
#elif defined(__AVX2__) && (defined(__FMA__) || defined(_MSC_VER))
#define FACEKIT_LANES 8
#else
#define FACEKIT_LANES 4
#endif

// Loops over registers must be unrolled whole, also where the compiler would rather not.
#if defined(__clang__)
#define FACEKIT_UNROLL _Pragma("unroll")
#define FACEKIT_INLINE inline __attribute__((always_inline))
#elif defined(__GNUC__)
#define FACEKIT_UNROLL _Pragma("GCC unroll 32")
#define FACEKIT_INLINE inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define FACEKIT_UNROLL
#define FACEKIT_INLINE __forceinline
#else
#define FACEKIT_UNROLL
#define FACEKIT_INLINE inline
#endif

inline constexpr int kLanes = FACEKIT_LANES;

// kSums: how many vectors a tile of a convolution adds up at once; with its operands they fill the registers.
// kMostBlocks: how many of them are output channels of one pixel.
#if FACEKIT_LANES == 16
inline constexpr char kVectors[] = "AVX-512";
inline constexpr int kSums = 24, kMostBlocks = 4;
struct Vec {
  __m512 v;
};
FACEKIT_INLINE Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
FACEKIT_INLINE void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
FACEKIT_INLINE Vec every(float a) { return {_mm512_set1_ps(a)}; }
FACEKIT_INLINE Vec multiply_add(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
FACEKIT_INLINE Vec add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
FACEKIT_INLINE Vec larger(Vec a, Vec b) {
  // Not _mm512_max_ps: GCC 12 warns of the undefined vector inside it (its bug 105593).
  return {_mm512_mask_max_ps(a.v, static_cast<__mmask16>(0xFFFF), a.v, b.v)};
}
FACEKIT_INLINE Vec from_bytes(const std::uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m512i wide = _mm512_maskz_cvtepu8_epi32(static_cast<__mmask16>(0xFFFF), bytes);
  return {_mm512_maskz_cvtepi32_ps(static_cast<__mmask16>(0xFFFF), wide)};
}
#elif FACEKIT_LANES == 8
inline constexpr char kVectors[] = "AVX2";
inline constexpr int kSums = 12, kMostBlocks = 2;
struct Vec {
  __m256 v;
};
FACEKIT_INLINE Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
FACEKIT_INLINE void store(float* p, Vec a) { _mm256_storeu_ps(p, a.v); }
FACEKIT_INLINE Vec every(float a) { return {_mm256_set1_ps(a)}; }
FACEKIT_INLINE Vec multiply_add(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
FACEKIT_INLINE Vec add(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
FACEKIT_INLINE Vec larger(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
FACEKIT_INLINE Vec from_bytes(const std::uint8_t* p) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))};
}
#elif !defined(FACEKIT_PLAIN) && defined(__aarch64__) && defined(__ARM_NEON)
inline constexpr char kVectors[] = "NEON";
inline constexpr int kSums = 24, kMostBlocks = 4;
struct Vec {
  float32x4_t v;
};
FACEKIT_INLINE Vec load(const float* p) { return {vld1q_f32(p)}; }
FACEKIT_INLINE void store(float* p, Vec a) { vst1q_f32(p, a.v); }
FACEKIT_INLINE Vec every(float a) { return {vdupq_n_f32(a)}; }
FACEKIT_INLINE Vec multiply_add(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
FACEKIT_INLINE Vec add(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
FACEKIT_INLINE Vec larger(Vec a, Vec b) { return {vmaxq_f32(a.v, b.v)}; }
FACEKIT_INLINE Vec from_bytes(const std::uint8_t* p) {
  const float four[4] = {float(p[0]), float(p[1]), float(p[2]), float(p[3])};
  return load(four);
}
#elif !defined(FACEKIT_PLAIN) && (defined(__SSE2__) || defined(_M_X64))
inline constexpr char kVectors[] = "SSE2";
inline constexpr int kSums = 8, kMostBlocks = 2;
struct Vec {
  __m128 v;
};
FACEKIT_INLINE Vec load(const float* p) { return {_mm_loadu_ps(p)}; }
FACEKIT_INLINE void store(float* p, Vec a) { _mm_storeu_ps(p, a.v); }
FACEKIT_INLINE Vec every(float a) { return {_mm_set1_ps(a)}; }
FACEKIT_INLINE Vec multiply_add(Vec a, Vec b, Vec c) { return {_mm_add_ps(_mm_mul_ps(a.v, b.v), c.v)}; }
FACEKIT_INLINE Vec add(Vec a, Vec b) { return {_mm_add_ps(a.v, b.v)}; }
FACEKIT_INLINE Vec larger(Vec a, Vec b) { return {_mm_max_ps(a.v, b.v)}; }
FACEKIT_INLINE Vec from_bytes(const std::uint8_t* p) {
  return {_mm_set_ps(float(p[3]), float(p[2]), float(p[1]), float(p[0]))};
}
#else
inline constexpr char kVectors[] = "plain C++";
inline constexpr int kSums = 8, kMostBlocks = 2;
struct Vec {
  float v[4];
};
FACEKIT_INLINE Vec load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
FACEKIT_INLINE void store(float* p, Vec a) {
  for (int i = 0; i < 4; ++i) p[i] = a.v[i];
}
FACEKIT_INLINE Vec every(float a) { return {{a, a, a, a}}; }
FACEKIT_INLINE Vec multiply_add(Vec a, Vec b, Vec c) {
  for (int i = 0; i < 4; ++i) c.v[i] += a.v[i] * b.v[i];
  return c;
}
FACEKIT_INLINE Vec add(Vec a, Vec b) {
  for (int i = 0; i < 4; ++i) a.v[i] += b.v[i];
  return a;
}
FACEKIT_INLINE Vec larger(Vec a, Vec b) {
  for (int i = 0; i < 4; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
FACEKIT_INLINE Vec from_bytes(const std::uint8_t* p) {
  return {{float(p[0]), float(p[1]), float(p[2]), float(p[3])}};
}
#endif

inline float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

inline int blocks_of(int channels) { return (channels + kLanes - 1) / kLanes; }
