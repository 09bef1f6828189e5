// ---- YuNet: six stages, three levels added from the coarsest down, four branches a level as one convolution. ----

class Network {
 public:
  // Packs them, or counts the floats that it takes. Throws std::logic_error where there are too many or too few.
  std::size_t read_weights(float* packed) {
    Packer packer(kWeights, packed);
    backbone_.clear();
    backbone_.push_back(packer.stem(kStageChannels[0]));
    unit(packer, backbone_, kStageChannels[0], kStageChannels[0]);
    for (int stage = 1; stage < 6; ++stage) {
      unit(packer, backbone_, kStageChannels[stage - 1], kStageChannels[stage - 1]);
      unit(packer, backbone_, kStageChannels[stage - 1], kStageChannels[stage]);
    }
    for (int level = 0; level < kLevels; ++level) {
      lateral_[level].clear();
      unit(packer, lateral_[level], kTapChannels, kTapChannels);
    }
    for (int level = 0; level < kLevels; ++level) {
      head_[level].clear();
      for (int i = 0; i < kSharedUnits; ++i) unit(packer, head_[level], kTapChannels, kTapChannels);
      unit(packer, head_[level], kTapChannels, kPoints + 10, false);
    }
    if (packer.read() != sizeof(kWeights) / sizeof(float)) throw std::logic_error("facekit: not this network's weights");
    return packer.used();
  }

  void plan(Arena& arena, int height, int width) {
    chains_[0] = Chain(height, width);
    chains_[0].add(backbone_[0]);
    for (int i = 1; i < 3; ++i) chains_[0].add(backbone_[i]);
    chains_[0].add(pool(kStageChannels[0]));
    for (int i = 3; i < 11; ++i) chains_[0].add(backbone_[i]);  // stages 1 and 2
    chains_[0].add(pool(kStageChannels[2]));
    chains_[0].into(chains_[0].map(arena));
    for (int level = 0; level < kLevels; ++level) {
      const Map& from = chains_[level].result();
      Chain& stage = chains_[1 + level] = Chain(from.height, from.width);
      if (level) stage.add(pool(kTapChannels));
      for (int i = 0; i < 4; ++i) stage.add(backbone_[11 + 4 * level + i]);
      stage.into(stage.map(arena));
    }
    for (int level = kLevels - 1; level >= 0; --level) {
      const Map& tap = chains_[1 + level].result();
      Chain& head = heads_[level] = Chain(tap.height, tap.width);
      if (level) {
        Chain& lateral = laterals_[level] = Chain(tap.height, tap.width);
        for (const Layer& layer : lateral_[level]) lateral.add(layer);
        lateral.into(lateral.map(arena));
      } else {  // nothing else wants the finest level
        for (const Layer& layer : lateral_[level]) head.add(layer);
      }
      for (const Layer& layer : head_[level]) head.add(layer);
      head.into(head.map(arena));
    }
  }

  template <class Each>
  void each_chain(const Each& each) const {
    for (const Chain& chain : chains_) each(chain);
    for (int level = 1; level < kLevels; ++level) each(laterals_[level]);
    for (const Chain& chain : heads_) each(chain);
  }

  template <class Runner, class Picture>
  void run(const Runner& runner, const Picture& picture) {
    runner(chains_[0], picture);
    for (int i = 1; i <= kLevels; ++i) runner(chains_[i], chains_[i - 1].result());
    for (int level = kLevels - 1; level > 0; --level) {
      runner(laterals_[level], chains_[1 + level].result());
      add_doubled(laterals_[level].result(), chains_[level].result());
    }
    for (int level = 0; level < kLevels; ++level)
      runner(heads_[level], level ? laterals_[level].result() : chains_[1].result());
  }

  int rows(int level) const { return heads_[level].out_height(); }
  int columns(int level) const { return heads_[level].out_width(); }

  // 0 where class or objectness alone says less than `least_logit`.
  float score(const Place& at, float least_logit) const {
    const float face = value(at, kClass), object = value(at, kObjectness);
    return face < least_logit || object < least_logit ? 0.0f : sigmoid(face) * sigmoid(object);
  }
  float box(const Place& at, int column) const { return value(at, kBox + column); }
  float point(const Place& at, int column) const { return value(at, kPoints + column); }

 private:
  static constexpr int kTapChannels = kStageChannels[5];
  // A cell's numbers: class, objectness, four of the box, ten of the points.
  static constexpr int kClass = 0, kObjectness = 1, kBox = 2, kPoints = 6;

  float value(const Place& at, int channel) const { return heads_[at.level].result().value(at, channel); }

  static void unit(Packer& packer, std::vector<Layer>& to, int in, int out, bool relu = true) {
    to.push_back(packer.pointwise(in, out, false));
    to.push_back(packer.depthwise(out, 1, relu));
  }

  // Each pixel of the coarser map to four of the finer one.
  static void add_doubled(const Map& coarse, const Map& fine) {
    const std::ptrdiff_t coarse_stride = block_stride(coarse.width), stride = block_stride(fine.width);
    for (int y = 0; y < fine.height; ++y) {
      for (int block = 0; block < fine.blocks; ++block) {
        const float* from = coarse.row(y / 2) + block * coarse_stride;
        float* to = fine.row(y) + block * stride;
        for (int x = 0; x < fine.width; ++x, to += kLanes) store(to, add(load(to), load(from + x / 2 * kLanes)));
      }
    }
  }

  std::vector<Layer> backbone_, lateral_[kLevels], head_[kLevels];
  Chain chains_[1 + kLevels];  // to the pooled stage 2, and stages 3, 4, 5
  Chain laterals_[kLevels], heads_[kLevels];
};
