// ---- From a picture's bytes to the rows that the network is fed. ----

struct Size {
  int height = 0, width = 0;
  bool operator==(const Size& other) const { return height == other.height && width == other.width; }
};

// What the template's protocol makes of a picture: resized, then zeros right and below.
struct Fed {
  Size picture, resized, whole;
  float scale_x = 1, scale_y = 1;  // from pixels of what is fed to the picture's
  bool operator==(const Fed& other) const {
    return picture == other.picture && resized == other.resized && whole == other.whole;
  }
};

inline int to_multiple(int side, int multiple) { return (side + multiple - 1) / multiple * multiple; }

inline Fed as_it_is(int height, int width) {
  Fed fed;
  fed.picture = fed.resized = fed.whole = {height, width};
  return fed;
}

inline Fed fed_of(int height, int width) {
  Fed fed = as_it_is(height, width);
  if constexpr (kResize == Resize::kStretch) {
    fed.resized = {kInputHeight, kInputWidth};
    fed.scale_x = float(double(width) / kInputWidth);
    fed.scale_y = float(double(height) / kInputHeight);
  } else if constexpr (kResize != Resize::kNone) {
    const double scale = std::max(double(height) / kInputHeight, double(width) / kInputWidth);
    fed.resized = {std::max(1, int(std::nearbyint(height / scale))), std::max(1, int(std::nearbyint(width / scale)))};
    fed.scale_x = fed.scale_y = float(scale);
  }
  fed.whole = {to_multiple(fed.resized.height, kSizeMultiple), to_multiple(fed.resized.width, kSizeMultiple)};
  if (kResize == Resize::kLetterbox) fed.whole = {kInputHeight, kInputWidth};
  return fed;
}

// Where a resized row or column comes from: `first` and the one behind it, with their weights of 2048.
struct Origin {
  int first, second;
  int weight, rest;
};

// cv2.resize's INTER_LINEAR for bytes: in whole numbers, as OpenCV counts; halved, it is the mean of 2 x 2.
class Resizer {
 public:
  void plan(Arena& arena, const Fed& fed) {
    from_ = fed.picture;
    to_ = fed.resized;
    is_needed_ = !(from_ == to_);
    halves_ = from_.height == 2 * to_.height && from_.width == 2 * to_.width;
    if (!is_needed_ || halves_) return;
    columns_ = plan_side(arena, from_.width, to_.width, true);
    rows_ = plan_side(arena, from_.height, to_.height, false);
  }

  bool is_needed() const { return is_needed_; }

  // Row y, times `factors`, plus `shifts` (of B, G, R).
  void row(const std::uint8_t* bgr, std::ptrdiff_t step, int y, const float factors[3], const float shifts[3],
           float* to) const {
    if (halves_) {
      const std::uint8_t *upper = bgr + 2 * y * step, *lower = upper + step;
      for (int x = 0; x < to_.width; ++x, upper += 6, lower += 6)
        for (int c = 0; c < 3; ++c)
          *to++ = float((upper[c] + upper[c + 3] + lower[c] + lower[c + 3] + 2) >> 2) * factors[c] + shifts[c];
      return;
    }
    const Origin& v = rows_[y];
    const std::uint8_t *upper = bgr + v.first * step, *lower = bgr + v.second * step;
    for (int x = 0; x < to_.width; ++x) {
      const Origin& h = columns_[x];
      for (int c = 0; c < 3; ++c) {
        const int first = 3 * h.first + c, second = 3 * h.second + c;
        const int above = upper[first] * h.weight + upper[second] * h.rest;
        const int below = lower[first] * h.weight + lower[second] * h.rest;
        const int pixel = (((v.weight * (above >> 4)) >> 16) + ((v.rest * (below >> 4)) >> 16) + 2) >> 2;
        *to++ = float(pixel) * factors[c] + shifts[c];
      }
    }
  }

 private:
  // Beyond the outermost pixels the nearest one counts: with a whole weight for columns, with two parts for rows, which
  // OpenCV rounds apart.
  static Origin* plan_side(Arena& arena, int from, int to, bool is_whole) {
    float* room = arena.take(std::size_t(to) * sizeof(Origin) / sizeof(float));
    if (!room) return nullptr;
    Origin* origins = reinterpret_cast<Origin*>(room);
    const double scale = double(from) / to;
    for (int i = 0; i < to; ++i) {
      const float place = float((i + 0.5) * scale - 0.5);
      const int first = int(std::floor(place));
      const float share = is_whole && (first < 0 || first >= from - 1) ? 0.0f : place - float(first);
      new (origins + i) Origin{inside(first, from), inside(first + 1, from), int(std::lrint((1.0f - share) * 2048.0f)),
                               int(std::lrint(share * 2048.0f))};
    }
    return origins;
  }

  static int inside(int place, int side) { return std::min(std::max(place, 0), side - 1); }

  Size from_, to_;
  bool is_needed_ = false, halves_ = false;
  const Origin *columns_ = nullptr, *rows_ = nullptr;
};

// A source of the first chain: rows of B, G, R side by side, (pixel - mean) / deviation.
class Picture {
 public:
  Picture(const Fed& fed, const Resizer& resizer, const std::uint8_t* bgr, std::ptrdiff_t step)
      : fed_(fed), resizer_(resizer), bgr_(bgr), step_(step) {
    for (int c = 0; c < 3; ++c) {
      factors_[c] = 1.0f / kStd[c];
      shifts_[c] = -kMean[c] / kStd[c];
    }
    for (int i = 0; i < 3 * kLanes; ++i) {
      pattern_[i] = factors_[i % 3];
      shift_pattern_[i] = shifts_[i % 3];
    }
  }

  const float* operator()(int y, float* room) const {
    float* to = room;
    if (y < fed_.resized.height) {
      if (resizer_.is_needed()) resizer_.row(bgr_, step_, y, factors_, shifts_, to);
      else plain_row(bgr_ + y * step_, to);
      to += 3 * std::ptrdiff_t(fed_.resized.width);
    }
    for (float* end = room + 3 * std::ptrdiff_t(fed_.whole.width); to != end; to += 3) std::copy(shifts_, shifts_ + 3, to);
    return room;
  }

 private:
  void plain_row(const std::uint8_t* from, float* to) const {
    const int count = 3 * fed_.resized.width;
    int i = 0;
    for (; i + 3 * kLanes <= count; i += 3 * kLanes) {
      FACEKIT_UNROLL
      for (int k = 0; k < 3 * kLanes; k += kLanes)
        store(to + i + k, multiply_add(from_bytes(from + i + k), load(pattern_ + k), load(shift_pattern_ + k)));
    }
    for (; i < count; ++i) to[i] = float(from[i]) * factors_[i % 3] + shifts_[i % 3];
  }

  const Fed& fed_;
  const Resizer& resizer_;
  const std::uint8_t* bgr_;
  std::ptrdiff_t step_;
  float factors_[3], shifts_[3], pattern_[3 * kLanes], shift_pattern_[3 * kLanes];
};
