// ---- Ultra-Light: separable blocks, four levels, boxes alone; with a receptive field block or without. ----

class Network {
 public:
  // Packs them, or counts the floats that it takes. Throws std::logic_error where there are too many or too few.
  std::size_t read_weights(float* packed) {
    Packer packer(kWeights, packed);
    backbone_.assign(1, packer.stem(16));
    int channels = 16;
    for (int block = 0; block < kBlocks; ++block) {
      if (kReceptiveField && block == kBranchedBlock) {
        branches(packer);
        continue;  // the layers behind it count from here as without it
      }
      backbone_.push_back(packer.depthwise(channels, kBlockStrides[block], true));
      backbone_.push_back(packer.pointwise(channels, kBlockChannels[block], true));
      channels = kBlockChannels[block];
    }
    extra_.assign(1, packer.pointwise(channels, 64, true));
    extra_.push_back(packer.depthwise(64, 2, true));
    extra_.push_back(packer.pointwise(64, channels, true));
    for (int level = 0; level < kLevels; ++level) {
      for (int kind = 0; kind < 2; ++kind) {
        head_[level][kind].clear();
        const int in = kTapChannels[level], out = kPriorCounts[level] * (kind ? 4 : 2);
        if (level + 1 < kLevels) {
          head_[level][kind].push_back(packer.depthwise(in, 1, true));
          head_[level][kind].push_back(packer.pointwise(in, out, false));
        } else {
          head_[level][kind].push_back(packer.full(in, out, 1, false));
        }
      }
    }
    if (packer.read() != sizeof(kWeights) / sizeof(float)) throw std::logic_error("facekit: not this network's weights");
    return packer.used();
  }

  void plan(Arena& arena, int height, int width) {
    chains_[0] = Chain(height, width);
    const int before = 1 + 2 * kBranchedBlock, skipped = kReceptiveField ? 0 : 2;
    for (int i = 0; i < before + skipped; ++i) chains_[0].add(backbone_[i]);
    if (kReceptiveField) plan_branches(arena);
    else chains_[0].into(chains_[0].map(arena));
    int next = before + skipped;
    for (int level = 1; level < kLevels; ++level) {
      const Map& from = tap(level - 1);
      Chain& chain = chains_[level] = Chain(from.height, from.width);
      if (level == kLevels - 1)
        for (const Layer& layer : extra_) chain.add(layer);
      else
        for (int end = next + 2 * kLevelBlocks[level]; next < end; ++next) chain.add(backbone_[next]);
      chain.into(chain.map(arena));
    }
    for (int level = 0; level < kLevels; ++level) {
      for (int kind = 0; kind < 2; ++kind) {
        Chain& chain = heads_[level][kind] = Chain(tap(level).height, tap(level).width);
        for (const Layer& layer : head_[level][kind]) chain.add(layer);
        chain.into(chain.map(arena));
      }
    }
  }

  template <class Each>
  void each_chain(const Each& each) const {
    for (const Chain& chain : chains_) each(chain);
    if (kReceptiveField)
      for (const Chain& chain : branch_chains_) each(chain);
    for (const auto& level : heads_)
      for (const Chain& chain : level) each(chain);
  }

  template <class Runner, class Picture>
  void run(const Runner& runner, const Picture& picture) {
    runner(chains_[0], picture);
    if (kReceptiveField) {
      for (int i = 0; i < 3; ++i) runner(branch_chains_[i], chains_[0].result());
      runner(branch_chains_[3], joined_);
    }
    for (int level = 1; level < kLevels; ++level) runner(chains_[level], tap(level - 1));
    for (int level = 0; level < kLevels; ++level)
      for (Chain& chain : heads_[level]) runner(chain, tap(level));
  }

  int rows(int level) const { return tap(level).height; }
  int columns(int level) const { return tap(level).width; }

  // 0 where it is less sure than `least_logit`.
  float score(const Place& at, float least_logit) const {
    const Map& classes = heads_[at.level][0].result();
    const float face = classes.value(at, 2 * at.prior + kFaceColumn), none = classes.value(at, 2 * at.prior + 1 - kFaceColumn);
    return face - none < least_logit ? 0.0f : sigmoid(face - none);
  }
  float box(const Place& at, int column) const { return heads_[at.level][1].result().value(at, 4 * at.prior + column); }
  float point(const Place&, int) const { return 0.0f; }

 private:
  static constexpr int kBlocks = 12;
  static constexpr int kBlockChannels[kBlocks] = {32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256};
  static constexpr int kBlockStrides[kBlocks] = {1, 2, 1, 2, 1, 1, 1, 2, 1, 1, 2, 1};
  static constexpr int kBranchedBlock = 6;  // the last one of stride 8
  static constexpr int kLevelBlocks[kLevels] = {7, 3, 2, 0};
  static constexpr int kTapChannels[kLevels] = {64, 128, 256, 256};

  const Map& tap(int level) const {
    return level == 0 && kReceptiveField ? branch_chains_[3].result() : chains_[level].result();
  }

  // Three branches of 16 channels, and what joins them: their convolution and the shortcut's, added, are one of both
  // inputs side by side.
  void branches(Packer& packer) {
    for (auto& branch : branch_) branch.clear();
    for (int i = 0; i < 2; ++i) {
      branch_[i].push_back(packer.pointwise(64, 8, false));
      branch_[i].push_back(packer.full(8, 16, 1, true));
      branch_[i].push_back(packer.full(16, 16, 2 + i, false));
    }
    branch_[2].push_back(packer.pointwise(64, 8, false));
    branch_[2].push_back(packer.full(8, 12, 1, true));
    branch_[2].push_back(packer.full(12, 16, 1, true));
    branch_[2].push_back(packer.full(16, 16, 5, false));
    branch_[3].push_back(packer.pointwise(3 * 16 + 64, 64, true));
  }

  void plan_branches(Arena& arena) {
    const int height = chains_[0].out_height(), width = chains_[0].out_width();
    joined_ = Map(arena, height, width, 3 * 16 + 64);
    chains_[0].into(joined_.part(3 * 16, 64));
    for (int i = 0; i < 4; ++i) {
      Chain& chain = branch_chains_[i] = Chain(height, width);
      for (const Layer& layer : branch_[i]) chain.add(layer);
      chain.into(i < 3 ? joined_.part(16 * i, 16) : chain.map(arena));
    }
  }

  std::vector<Layer> backbone_, extra_, branch_[4], head_[kLevels][2];
  Chain chains_[kLevels], branch_chains_[4], heads_[kLevels][2];
  Map joined_;
};
