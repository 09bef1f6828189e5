// ---- Convolutions, a row of the output at a time. ----
//
// A row of a feature map lies as [block of kLanes channels][kBorder + width + kBorder pixels][kLanes]; a pointer to a row
// is to its first pixel. The borders are zero: a convolution's padding.

enum class Kind { kStem, kPointwise, kDepthwise, kFull, kPool };

struct Layer {
  Kind kind = Kind::kPool;
  int in = 0, out = 0;  // channels
  int stride = 1, dilation = 1;
  bool relu = false;
  const float* weights = nullptr;  // packed
  const float* bias = nullptr;     // whole blocks

  int rows() const { return kind == Kind::kPointwise ? 1 : kind == Kind::kPool ? 2 : 3; }
  int padding() const { return rows() == 3 ? dilation : 0; }
  int held() const { return (rows() - 1) * dilation + 1; }  // rows of the input that one row of the output needs
  int out_side(int side) const { return kind == Kind::kPool ? side / 2 : (side + stride - 1) / stride; }
};

inline Layer pool(int channels) {
  Layer layer;
  layer.in = layer.out = channels;
  layer.stride = 2;
  return layer;
}

// Output channels are taken in groups of blocks; a group's weights lie as [input][block][kLanes].
inline int blocks_in_group(int blocks_left) { return blocks_left < kMostBlocks ? blocks_left : kMostBlocks; }

// Weights and biases in the order of kWeights, repacked for the vectors at hand. Counts alone where `to` is null.
class Packer {
 public:
  Packer(const float* from, float* to) : from_(from), to_(to) {}
  std::size_t used() const { return used_; }  // floats that are packed
  std::size_t read() const { return read_; }  // floats that they are made from

  Layer pointwise(int in, int out, bool relu) { return dense(Kind::kPointwise, in, out, in, 1, 1, relu); }
  Layer stem(int out) { return dense(Kind::kStem, 3, out, 27, 2, 1, true); }
  Layer full(int in, int out, int dilation, bool relu) {
    return dense(Kind::kFull, in, out, 9 * in, 1, dilation, relu);
  }
  Layer depthwise(int channels, int stride, bool relu) {
    Layer layer;
    layer.kind = Kind::kDepthwise;
    layer.in = layer.out = channels;
    layer.stride = stride;
    layer.relu = relu;
    const std::size_t padded = std::size_t(blocks_of(channels)) * kLanes;
    layer.weights = place(9 * padded);
    if (to_) {
      float* to = to_ + used_ - 9 * padded;  // [block][tap][kLanes]
      for (int tap = 0; tap < 9; ++tap)
        for (int c = 0; c < channels; ++c) to[(c / kLanes * 9 + tap) * kLanes + c % kLanes] = from_[tap * channels + c];
    }
    take(9 * std::size_t(channels));
    layer.bias = biases(channels);
    return layer;
  }

 private:
  float* place(std::size_t count) {
    float* at = to_ ? to_ + used_ : nullptr;
    used_ += count;
    return at;
  }

  void take(std::size_t count) {
    if (to_) from_ += count;
    read_ += count;
  }

  const float* biases(int out) {
    float* at = place(std::size_t(blocks_of(out)) * kLanes);
    if (at) std::copy(from_, from_ + out, at);
    take(std::size_t(out));
    return at;
  }

  // Weights come as [output][input]: a 3x3 kernel's inputs as [row][column][channel].
  Layer dense(Kind kind, int in, int out, int inputs, int stride, int dilation, bool relu) {
    Layer layer;
    layer.kind = kind;
    layer.in = in;
    layer.out = out;
    layer.stride = stride;
    layer.dilation = dilation;
    layer.relu = relu;
    const int blocks = blocks_of(out);
    float* to = place(std::size_t(inputs) * blocks * kLanes);
    layer.weights = to;
    if (to) {
      for (int first = 0; first < blocks; first += blocks_in_group(blocks - first)) {
        const int lanes = blocks_in_group(blocks - first) * kLanes;
        for (int i = 0; i < inputs; ++i)
          for (int lane = 0; lane < lanes; ++lane, ++to) {
            const int o = first * kLanes + lane;
            *to = o < out ? from_[std::size_t(o) * inputs + i] : 0.0f;
          }
      }
    }
    take(std::size_t(out) * std::size_t(inputs));
    layer.bias = biases(out);
    return layer;
  }

  const float* from_;
  float* to_;
  std::size_t used_ = 0, read_ = 0;
};

// Some inputs of a convolution that lie side by side, at the output row's first pixel.
struct Segment {
  const float* from;
  int count;
};

// P pixels of B blocks of output channels. Stride: floats from the inputs of a pixel to those of the next one.
template <int B, int P, int Stride>
FACEKIT_INLINE void dense_tile(const Segment* segments, int count, std::ptrdiff_t skip, const float* weights,
                               const float* bias, bool relu, float* out, std::ptrdiff_t block_stride) {
  Vec sums[P][B];
  FACEKIT_UNROLL
  for (int p = 0; p < P; ++p) {
    FACEKIT_UNROLL
    for (int b = 0; b < B; ++b) sums[p][b] = load(bias + b * kLanes);
  }
  for (int s = 0; s < count; ++s) {
    const float* in = segments[s].from + skip;
    for (const float* end = in + segments[s].count; in != end; ++in) {
      Vec w[B];
      FACEKIT_UNROLL
      for (int b = 0; b < B; ++b) w[b] = load(weights + b * kLanes);
      weights += B * kLanes;
      FACEKIT_UNROLL
      for (int p = 0; p < P; ++p) {
        const Vec x = every(in[p * Stride]);
        FACEKIT_UNROLL
        for (int b = 0; b < B; ++b) sums[p][b] = multiply_add(x, w[b], sums[p][b]);
      }
    }
  }
  if (relu) {
    const Vec zero = every(0.0f);
    FACEKIT_UNROLL
    for (int p = 0; p < P; ++p) {
      FACEKIT_UNROLL
      for (int b = 0; b < B; ++b) sums[p][b] = larger(sums[p][b], zero);
    }
  }
  FACEKIT_UNROLL
  for (int p = 0; p < P; ++p) {
    FACEKIT_UNROLL
    for (int b = 0; b < B; ++b) store(out + b * block_stride + p * kLanes, sums[p][b]);
  }
}

// A row of one group. The last tile is pushed back over the one before it, and gives the same numbers there.
template <int B, int Stride>
inline void dense_group(const Segment* segments, int count, const float* weights, const float* bias, bool relu,
                        float* out, std::ptrdiff_t block_stride, int width) {
  constexpr int P = kSums / B < 14 ? kSums / B : 14;
  if (width < P) {
    for (int x = 0; x < width; ++x)
      dense_tile<B, 1, Stride>(segments, count, std::ptrdiff_t(x) * Stride, weights, bias, relu,
                               out + std::ptrdiff_t(x) * kLanes, block_stride);
    return;
  }
  for (int x = 0;; x = x + 2 * P <= width ? x + P : width - P) {
    dense_tile<B, P, Stride>(segments, count, std::ptrdiff_t(x) * Stride, weights, bias, relu,
                             out + std::ptrdiff_t(x) * kLanes, block_stride);
    if (x + P == width) return;
  }
}

template <int Stride>
inline void dense_row(const Layer& layer, const Segment* segments, int count, int inputs, float* out,
                      std::ptrdiff_t block_stride, int width) {
  const int blocks = blocks_of(layer.out);
  const float* weights = layer.weights;
  for (int first = 0; first < blocks;) {
    const int group = blocks_in_group(blocks - first);
    const float* bias = layer.bias + first * kLanes;
    float* to = out + first * block_stride;
    if (group == 1) dense_group<1, Stride>(segments, count, weights, bias, layer.relu, to, block_stride, width);
    if (group == 2) dense_group<2, Stride>(segments, count, weights, bias, layer.relu, to, block_stride, width);
    if constexpr (kMostBlocks == 4) {
      if (group == 3) dense_group<3, Stride>(segments, count, weights, bias, layer.relu, to, block_stride, width);
      if (group == 4) dense_group<4, Stride>(segments, count, weights, bias, layer.relu, to, block_stride, width);
    }
    weights += std::ptrdiff_t(inputs) * group * kLanes;
    first += group;
  }
}

// T pixels of one block; `rows`: three rows of the input, from the column left of the first pixel's.
template <int T, int Stride>
FACEKIT_INLINE void depthwise_tile(const float* const rows[3], std::ptrdiff_t skip, const Vec weights[9], Vec bias,
                                   bool relu, float* out) {
  constexpr int kColumns = (T - 1) * Stride + 3;
  Vec sums[T];
  FACEKIT_UNROLL
  for (int t = 0; t < T; ++t) sums[t] = bias;
  FACEKIT_UNROLL
  for (int r = 0; r < 3; ++r) {
    Vec in[kColumns];
    FACEKIT_UNROLL
    for (int c = 0; c < kColumns; ++c) in[c] = load(rows[r] + skip + c * kLanes);
    FACEKIT_UNROLL
    for (int t = 0; t < T; ++t) {
      FACEKIT_UNROLL
      for (int k = 0; k < 3; ++k) sums[t] = multiply_add(in[t * Stride + k], weights[3 * r + k], sums[t]);
    }
  }
  FACEKIT_UNROLL
  for (int t = 0; t < T; ++t) store(out + t * kLanes, relu ? larger(sums[t], every(0.0f)) : sums[t]);
}

template <int Stride>
inline void depthwise_row(const Layer& layer, const float* const rows[3], std::ptrdiff_t in_block_stride, float* out,
                          std::ptrdiff_t block_stride, int width) {
  constexpr int T = 4;
  for (int block = 0; block < blocks_of(layer.out); ++block, out += block_stride) {
    const float* from[3];
    for (int r = 0; r < 3; ++r) from[r] = rows[r] + block * in_block_stride - kLanes;
    Vec weights[9];
    FACEKIT_UNROLL
    for (int tap = 0; tap < 9; ++tap) weights[tap] = load(layer.weights + (block * 9 + tap) * kLanes);
    const Vec bias = load(layer.bias + block * kLanes);
    if (width < T) {
      for (int x = 0; x < width; ++x)
        depthwise_tile<1, Stride>(from, std::ptrdiff_t(x) * Stride * kLanes, weights, bias, layer.relu,
                                  out + std::ptrdiff_t(x) * kLanes);
      continue;
    }
    for (int x = 0;; x = x + 2 * T <= width ? x + T : width - T) {
      depthwise_tile<T, Stride>(from, std::ptrdiff_t(x) * Stride * kLanes, weights, bias, layer.relu,
                                out + std::ptrdiff_t(x) * kLanes);
      if (x + T == width) break;
    }
  }
}

// The larger of 2 x 2 pixels.
inline void pool_row(const float* const rows[2], int blocks, std::ptrdiff_t in_block_stride, float* out,
                     std::ptrdiff_t block_stride, int width) {
  for (int block = 0; block < blocks; ++block) {
    const float* upper = rows[0] + block * in_block_stride;
    const float* lower = rows[1] + block * in_block_stride;
    float* to = out + block * block_stride;
    for (int x = 0; x < width; ++x, upper += 2 * kLanes, lower += 2 * kLanes, to += kLanes)
      store(to, larger(larger(load(upper), load(upper + kLanes)), larger(load(lower), load(lower + kLanes))));
  }
}

inline constexpr int kMostSegments = 9 * 64;

// One row of a layer's output. `rows`: the rows of the input that it needs, those outside the map zero.
inline void run_row(const Layer& layer, const float* const* rows, std::ptrdiff_t in_block_stride, float* out,
                    std::ptrdiff_t block_stride, int width) {
  Segment segments[kMostSegments];
  int count = 0;
  switch (layer.kind) {
    case Kind::kPool:
      pool_row(rows, blocks_of(layer.in), in_block_stride, out, block_stride, width);
      return;
    case Kind::kDepthwise:
      if (layer.stride == 1) depthwise_row<1>(layer, rows, in_block_stride, out, block_stride, width);
      else depthwise_row<2>(layer, rows, in_block_stride, out, block_stride, width);
      return;
    case Kind::kStem:  // of pixels of three channels, side by side
      for (int r = 0; r < 3; ++r) segments[count++] = {rows[r] - 3, 9};
      dense_row<6>(layer, segments, count, 27, out, block_stride, width);
      return;
    case Kind::kPointwise:
    case Kind::kFull:
      break;
  }
  const int taps = layer.rows();  // a side of the kernel
  for (int r = 0; r < taps; ++r)
    for (int c = 0; c < taps; ++c)
      for (int channel = 0; channel < layer.in; channel += kLanes)
        segments[count++] = {rows[r] + channel / kLanes * in_block_stride +
                                 std::ptrdiff_t(c - taps / 2) * layer.dilation * kLanes,
                             layer.in - channel < kLanes ? layer.in - channel : kLanes};
  dense_row<kLanes>(layer, segments, count, taps * taps * layer.in, out, block_stride, width);
}
