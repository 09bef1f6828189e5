// ---- Layers in chains: each row is passed on while it is warm, and no map between two layers is ever whole. ----

// Hands out parts of one block of memory; counts alone while there is none.
class Arena {
 public:
  explicit Arena(float* base = nullptr) : base_(base) {}
  std::size_t used() const { return used_; }
  float* take(std::size_t count) {
    float* at = base_ ? base_ + used_ : nullptr;
    used_ += (count + 15) / 16 * 16;
    return at;
  }

 private:
  float* base_;
  std::size_t used_ = 0;
};

inline std::ptrdiff_t padded_width(int width) { return std::ptrdiff_t(width) + 2 * kBorder; }
// From one block of a row to the next one.
inline std::ptrdiff_t block_stride(int width) { return padded_width(width) * kLanes; }

// A prior: its level, the cell's row and column, which of the cell's.
struct Place {
  int level, y, x, prior;
};

// A feature map of `blocks` blocks, or some blocks of a larger one.
struct Map {
  float* data = nullptr;
  int height = 0, width = 0, blocks = 0;
  std::ptrdiff_t row_stride = 0;

  Map() = default;
  Map(Arena& arena, int height_, int width_, int channels)
      : height(height_), width(width_), blocks(blocks_of(channels)), row_stride(blocks * block_stride(width_)) {
    data = arena.take(std::size_t(row_stride) * std::size_t(height));
  }
  float* row(int y) const { return data + y * row_stride + kBorder * kLanes; }
  float value(const Place& at, int channel) const {
    return row(at.y)[channel / kLanes * block_stride(width) + at.x * kLanes + channel % kLanes];
  }
  Map part(int first_channel, int channels) const {
    Map part = *this;
    if (data) part.data = data + first_channel / kLanes * block_stride(width);
    part.blocks = blocks_of(channels);
    return part;
  }
};

inline constexpr int kMostHeld = 2 * kBorder + 1 < 3 ? 3 : 2 * kBorder + 1;
inline constexpr int kMostLayers = 32;

// Layers in a row from a source to a map. A band of the map's rows can be had alone; its neighbours' rows that it needs
// are computed again.
class Chain {
 public:
  Chain() = default;
  Chain(int height, int width) : source_height_(height), source_width_(width) {}

  void add(const Layer& layer) {
    Step step;
    step.layer = layer;
    step.in_height = count_ ? steps_[count_ - 1].out_height : source_height_;
    step.in_width = count_ ? steps_[count_ - 1].out_width : source_width_;
    step.out_height = layer.out_side(step.in_height);
    step.out_width = layer.out_side(step.in_width);
    if (count_ == kMostLayers) throw std::length_error("facekit: too many layers in a chain");
    steps_[count_++] = step;
  }
  Map map(Arena& arena) const { return Map(arena, out_height(), out_width(), steps_[count_ - 1].layer.out); }
  void into(const Map& to) { to_ = to; }
  int out_height() const { return steps_[count_ - 1].out_height; }
  int out_width() const { return steps_[count_ - 1].out_width; }
  const Map& result() const { return to_; }

  // Floats of scratch memory that a thread needs, whether the source's rows stand in a map or not.
  std::size_t scratch() const {
    std::size_t sum = 0;
    for (int i = 0; i < count_; ++i) sum += (steps_[i].row_floats() + 15) / 16 * 16 * std::size_t(steps_[i].layer.held());
    return sum;
  }
  std::size_t longest_row() const {
    std::size_t most = 0;
    for (int i = 0; i < count_; ++i) most = std::max(most, steps_[i].row_floats());
    return most;
  }

  // Rows first..end of the result. `source(y, room)` gives row y, which it may write into `room`; `zeros`: a row of them.
  template <class Source>
  void run(int first, int end, const Source& source, float* scratch, const float* zeros) {
    for (int i = count_ - 1; i >= 0; --i) {  // what is needed of each layer, from the last one back
      Step& step = steps_[i];
      step.next = first;
      step.end = end;
      const int last = (end - 1) * step.layer.stride - step.layer.padding() + step.layer.held() - 1;
      first = std::max(0, first * step.layer.stride - step.layer.padding());
      end = std::min(step.in_height, last + 1);
    }
    for (int i = 0; i < count_; ++i) {
      Step& step = steps_[i];
      const std::size_t floats = (step.row_floats() + 15) / 16 * 16;
      for (int k = 0; k < step.layer.held(); ++k, scratch += floats) {
        step.room[k] = scratch;
        step.clear_borders(scratch);
      }
    }
    for (int y = first; y < end; ++y) {
      Step& step = steps_[0];
      const int place = y % step.layer.held();
      step.held[place] = source(y, step.room[place] + step.border());
      push(0, y, zeros);
    }
  }

 private:
  struct Step {
    Layer layer;
    int in_height = 0, in_width = 0, out_height = 0, out_width = 0;
    int next = 0, end = 0;  // rows of the output that are still to come
    float* room[kMostHeld] = {};
    const float* held[kMostHeld] = {};  // row y of the input at y % held()

    bool is_stem() const { return layer.kind == Kind::kStem; }
    int border() const { return kBorder * (is_stem() ? 3 : kLanes); }
    std::size_t row_floats() const {
      return std::size_t(padded_width(in_width)) * (is_stem() ? 3 : std::size_t(blocks_of(layer.in)) * kLanes);
    }
    void clear_borders(float* row) const {
      if (is_stem()) {
        std::fill(row, row + border(), 0.0f);
        std::fill(row + border() + 3 * std::ptrdiff_t(in_width), row + row_floats(), 0.0f);
        return;
      }
      const std::ptrdiff_t stride = block_stride(in_width);
      for (int block = 0; block < blocks_of(layer.in); ++block, row += stride) {
        std::fill(row, row + border(), 0.0f);
        std::fill(row + stride - border(), row + stride, 0.0f);
      }
    }
  };

  // Row y of layer i's input is there: computes what can be computed with it, and passes it on.
  void push(int i, int y, const float* zeros) {
    Step& step = steps_[i];
    const Layer& layer = step.layer;
    const float* rows[3];
    for (; step.next < step.end; ++step.next) {
      const int top = step.next * layer.stride - layer.padding();
      if (std::min(top + layer.held() - 1, step.in_height - 1) > y) return;
      for (int k = 0; k < layer.rows(); ++k) {
        const int row = top + k * layer.dilation;
        rows[k] = row < 0 || row >= step.in_height ? zeros + step.border() : step.held[row % layer.held()];
      }
      float* out;
      std::ptrdiff_t out_stride = block_stride(step.out_width);
      if (i + 1 == count_) {
        out = to_.row(step.next);
      } else {
        Step& after = steps_[i + 1];
        const int place = step.next % after.layer.held();
        out = after.room[place] + after.border();
        after.held[place] = out;
      }
      run_row(layer, rows, block_stride(step.in_width), out, out_stride, step.out_width);
      if (i + 1 < count_) push(i + 1, step.next, zeros);
    }
  }

  int source_height_ = 0, source_width_ = 0, count_ = 0;
  std::array<Step, kMostLayers> steps_;
  Map to_;
};
