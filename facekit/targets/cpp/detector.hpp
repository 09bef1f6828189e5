// ---- The detector: what users call. ----

// A face, in pixels of the picture.
struct Face {
  float x1, y1, x2, y2;  // left, top, right, bottom
  float score;           // 0..1
  // Both eyes, nose, both corners of the mouth, left ones first as seen in the picture: x, y. Zero without them.
  float landmarks[5][2];
};

// Not for several threads at once: each takes its own. Memory is taken once for a size of picture.
class Detector {
 public:
  float score_threshold = kScoreThreshold;
  float nms_threshold = kNmsThreshold;   // IoU over which the worse of two boxes falls
  int max_candidates = kMaxCandidates;   // best boxes kept before suppression; 0: all
  int max_detections = kMaxDetections;   // best boxes kept after it; 0: all
  static constexpr bool has_landmarks = kHasLandmarks;

  // threads: that share a picture, where the compiler is told of OpenMP (-fopenmp); otherwise one.
  explicit Detector(int threads = 1) : threads_(kHasThreads && threads > 1 ? threads : 1) {
    weights_ = allocate(network_.read_weights(nullptr));
    network_.read_weights(weights_.get());
  }
  Detector(const Detector&) = delete;
  Detector& operator=(const Detector&) = delete;

  // Faces, best first. bgr: rows of blue, green, red bytes; step: bytes from a row to the next one, 0 for 3 * width.
  // An empty picture has none. Throws std::invalid_argument for a null picture, a step that is too short, and a picture
  // of more than kMaxPixels; std::bad_alloc where memory ends.
  std::vector<Face> detect(const std::uint8_t* bgr, int width, int height, std::ptrdiff_t step = 0) {
    std::vector<Face> faces;
    detect(bgr, width, height, step, faces);
    return faces;
  }

  // The same into a vector, whose memory is used again.
  void detect(const std::uint8_t* bgr, int width, int height, std::ptrdiff_t step, std::vector<Face>& faces) {
    faces.clear();
    if (!look(bgr, width, height, step, false)) return;
    std::size_t count = find_candidates();
    std::sort(candidates_, candidates_ + count, [](const Candidate& a, const Candidate& b) {
      return a.score != b.score ? a.score > b.score : a.index < b.index;
    });
    if (max_candidates > 0) count = std::min(count, std::size_t(max_candidates));
    count = suppress(count);
    for (std::size_t i = 0; i < count; ++i) faces.push_back(as_face(candidates_[i]));
  }

  // For tests: all priors of a picture that is fed as it is, of a size that the network takes, in the order of levels,
  // rows, columns, priors. boxes_xyxy: 4 each, scores: 1, landmarks_xy: 10 or null. Returns how many there are; writes
  // none where boxes_xyxy is null.
  std::size_t priors(const std::uint8_t* bgr, int width, int height, std::ptrdiff_t step, float* boxes_xyxy,
                     float* scores, float* landmarks_xy) {
    if (width % kSizeMultiple || height % kSizeMultiple) throw std::invalid_argument("facekit: not a size that is fed");
    if (!look(bgr, width, height, step, true)) return 0;
    std::size_t count = 0;
    each_prior([&](const Place& at) {
      if (boxes_xyxy) {
        const Candidate box = decode(at, count, network_.score(at, -std::numeric_limits<float>::infinity()));
        const float corners[4] = {box.x1, box.y1, box.x2, box.y2};
        std::copy(corners, corners + 4, boxes_xyxy + 4 * count);
        scores[count] = box.score;
        for (int i = 0; landmarks_xy && i < 10; ++i) landmarks_xy[10 * count + std::size_t(i)] = point(at, i);
      }
      ++count;
    });
    return count;
  }

 private:
  struct Candidate {
    float x1, y1, x2, y2, score;
    std::uint32_t index;
    Place at;
  };
  struct Freer {
    void operator()(float* memory) const { ::operator delete(memory, std::align_val_t(64)); }
  };
  using Memory = std::unique_ptr<float[], Freer>;

  static Memory allocate(std::size_t floats) {
    Memory memory(static_cast<float*>(::operator new(floats * sizeof(float), std::align_val_t(64))));
    std::fill(memory.get(), memory.get() + floats, 0.0f);
    return memory;
  }

  // Runs the network; false for a picture without pixels.
  bool look(const std::uint8_t* bgr, int width, int height, std::ptrdiff_t step, bool is_fed) {
    if (width <= 0 || height <= 0) return false;
    if (step == 0) step = 3 * std::ptrdiff_t(width);
    if (!bgr || step < 3 * std::ptrdiff_t(width)) throw std::invalid_argument("facekit: no picture, or too short a step");
    if (std::int64_t(width) * height > kMaxPixels) throw std::invalid_argument("facekit: too large a picture");
    plan(is_fed ? as_it_is(height, width) : fed_of(height, width));
    const Picture picture(fed_, resizer_, bgr, step);
    network_.run(
        [this](Chain& chain, const auto& source) {
          if constexpr (std::is_same_v<std::decay_t<decltype(source)>, Map>)
            run(chain, [&source](int y, float*) -> const float* { return source.row(y); });
          else
            run(chain, source);
        },
        picture);
    return true;
  }

  template <class Source>
  void run(Chain& chain, const Source& source) {
    const int height = chain.out_height();
#ifdef _OPENMP
    const int bands = std::min(threads_, height / 4);
    if (bands > 1) {
#pragma omp parallel for num_threads(bands) schedule(static, 1)
      for (int band = 0; band < bands; ++band) {
        Chain own = chain;  // its rings are its own
        own.run(int(std::int64_t(height) * band / bands), int(std::int64_t(height) * (band + 1) / bands), source,
                scratch_ + std::size_t(band) * scratch_size_, zeros_);
      }
      return;
    }
#endif
    chain.run(0, height, source, scratch_, zeros_);
  }

  void plan(const Fed& fed) {
    if (memory_ && fed_ == fed) return;
    fed_ = fed;
    Arena counted;
    lay_out(counted);
    memory_.reset();  // before the new one: never both
    memory_ = allocate(counted.used());
    Arena arena(memory_.get());
    lay_out(arena);
  }

  void lay_out(Arena& arena) {
    resizer_.plan(arena, fed_);
    network_.plan(arena, fed_.whole.height, fed_.whole.width);
    std::size_t longest = 0;
    scratch_size_ = 0;
    network_.each_chain([&](const Chain& chain) {
      scratch_size_ = std::max(scratch_size_, chain.scratch());
      longest = std::max(longest, chain.longest_row());
    });
    scratch_ = arena.take(scratch_size_ * std::size_t(threads_));
    zeros_ = arena.take(longest);
    std::size_t priors = 0;
    for (int level = 0; level < kLevels; ++level)
      priors += std::size_t(network_.rows(level)) * std::size_t(network_.columns(level)) * std::size_t(kPriorCounts[level]);
    float* room = arena.take(priors * ((sizeof(Candidate) + sizeof(float) - 1) / sizeof(float)));
    candidates_ = reinterpret_cast<Candidate*>(room);
  }

  template <class Each>
  void each_prior(const Each& each) const {
    for (int level = 0; level < kLevels; ++level)
      for (int y = 0; y < network_.rows(level); ++y)
        for (int x = 0; x < network_.columns(level); ++x)
          for (int prior = 0; prior < kPriorCounts[level]; ++prior) each(Place{level, y, x, prior});
  }

  std::size_t find_candidates() {
    // The logit of the threshold, a little less: what lies below can't reach it, and needs no exponential.
    const float t = score_threshold;
    const float least = t <= 0 ? -std::numeric_limits<float>::infinity() : t >= 1 ? 15.0f : std::log(t / (1 - t)) - 1e-3f;
    std::size_t count = 0;
    std::uint32_t index = 0;
    each_prior([&](const Place& at) {
      const float score = network_.score(at, least);
      if (score > t) {
        const Candidate box = decode(at, index, score);
        const bool is_box = box.x2 >= box.x1 && box.y2 >= box.y1 && std::abs(box.x1) <= kFarthest &&
                            std::abs(box.y1) <= kFarthest && std::abs(box.x2) <= kFarthest && std::abs(box.y2) <= kFarthest;
        if (is_box) new (candidates_ + count++) Candidate(box);
      }
      ++index;
    });
    return count;
  }

  struct Prior {
    float cx, cy, width, height;
  };

  Prior prior(const Place& at) const {
    const int columns = network_.columns(at.level), rows = network_.rows(at.level);
    const float step_x = float(kFitsCells ? double(fed_.whole.width) / columns : kStrides[at.level]);
    const float step_y = float(kFitsCells ? double(fed_.whole.height) / rows : kStrides[at.level]);
    const float* size = kPriorSizes[at.level][at.prior];
    Prior prior{(float(at.x) + kCellOffset) * step_x, (float(at.y) + kCellOffset) * step_y, size[0], size[1]};
    if (kFitsCells) {
      const float width = float(fed_.whole.width), height = float(fed_.whole.height);
      prior = {std::min(prior.cx, width), std::min(prior.cy, height), std::min(prior.width, width),
               std::min(prior.height, height)};
    }
    return prior;
  }

  Candidate decode(const Place& at, std::size_t index, float score) const {
    const Prior p = prior(at);
    const float cx = p.cx + network_.box(at, 0) * p.width * kCentreVariance;
    const float cy = p.cy + network_.box(at, 1) * p.height * kCentreVariance;
    const float half_width = p.width * std::exp(network_.box(at, 2) * kSizeVariance) / 2;
    const float half_height = p.height * std::exp(network_.box(at, 3) * kSizeVariance) / 2;
    Candidate box{cx - half_width, cy - half_height, cx + half_width, cy + half_height, score, std::uint32_t(index), at};
    if (kClipsBoxes) {
      const float width = float(fed_.whole.width), height = float(fed_.whole.height);
      box.x1 = std::min(std::max(box.x1, 0.0f), width), box.x2 = std::min(std::max(box.x2, 0.0f), width);
      box.y1 = std::min(std::max(box.y1, 0.0f), height), box.y2 = std::min(std::max(box.y2, 0.0f), height);
    }
    return box;
  }

  float point(const Place& at, int i) const {
    const Prior p = prior(at);
    return i % 2 ? p.cy + network_.point(at, i) * p.height * kCentreVariance
                 : p.cx + network_.point(at, i) * p.width * kCentreVariance;
  }

  // Greedy: what overlaps a better box that stays falls. Those that stay move to the front.
  std::size_t suppress(std::size_t count) {
    const float slack = float(kUnionSlack * fed_.whole.height * fed_.whole.width);
    const std::size_t most = max_detections > 0 ? std::size_t(max_detections) : count;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count && kept < most; ++i) {
      const Candidate box = candidates_[i];
      const float area = (box.x2 - box.x1) * (box.y2 - box.y1);
      bool stays = true;
      for (std::size_t k = 0; k < kept && stays; ++k) {
        const Candidate& better = candidates_[k];
        const float width = std::min(box.x2, better.x2) - std::max(box.x1, better.x1);
        const float height = std::min(box.y2, better.y2) - std::max(box.y1, better.y1);
        if (width <= 0 || height <= 0) continue;
        const float shared = width * height;
        const float better_area = (better.x2 - better.x1) * (better.y2 - better.y1);
        stays = !(shared / (area + (better_area + slack) - shared) > nms_threshold);
      }
      if (stays) candidates_[kept++] = box;
    }
    return kept;
  }

  Face as_face(const Candidate& box) const {
    Face face{box.x1 * fed_.scale_x, box.y1 * fed_.scale_y, box.x2 * fed_.scale_x, box.y2 * fed_.scale_y, box.score, {}};
    if (kHasLandmarks)
      for (int i = 0; i < 10; ++i) face.landmarks[i / 2][i % 2] = point(box.at, i) * (i % 2 ? fed_.scale_y : fed_.scale_x);
    return face;
  }

#ifdef _OPENMP
  static constexpr bool kHasThreads = true;
#else
  static constexpr bool kHasThreads = false;
#endif
  static constexpr float kFarthest = 1e7f;  // pixels: no box of a working detector lies there

  int threads_;
  Network network_;
  Memory weights_, memory_;
  Fed fed_;
  Resizer resizer_;
  float *scratch_ = nullptr, *zeros_ = nullptr;
  std::size_t scratch_size_ = 0;
  Candidate* candidates_ = nullptr;
};
