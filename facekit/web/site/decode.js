// From a picture to what the network is fed, and from what it says to faces: facekit's feed.py, ops/head.py, ops/coders.py
// and ops/nms.py, from the same declaration (detector.json). No DOM, no runtime: plain numbers.

const FARTHEST = 1e7; // pixels; no face lies there, and none is infinite

const even = (x) => { // rounds as Python does: halves to even
  const up = Math.round(x);
  return up - x === 0.5 && up % 2 ? up - 1 : up;
};

/** Where a picture of that size is fed: its size then, the size with zeros right and bottom, and the way back. */
export function plan(detector, width, height, longest = Infinity) {
  const { resize, size_hw: [inputHeight, inputWidth], size_multiple: multiple } = detector.input;
  let size = [width, height], back = [1, 1];
  if (resize === "stretch") {
    size = [inputWidth, inputHeight];
    back = [width / inputWidth, height / inputHeight];
  } else {
    const scale = resize === "none"
      ? Math.max(1, Math.max(width, height) / longest)
      : Math.max(height / inputHeight, width / inputWidth);
    size = [Math.max(1, even(width / scale)), Math.max(1, even(height / scale))];
    back = [scale, scale];
  }
  const padded = resize === "letterbox"
    ? [inputWidth, inputHeight]
    : size.map((side) => Math.ceil(side / multiple) * multiple);
  return { size, padded, back };
}

/** RGBA pixels -> float32 planes of blue, green, red, 0..255; scaled bilinearly, as OpenCV does. */
export function planes(pixels, width, height, { size: [w, h], padded: [paddedWidth, paddedHeight] }) {
  const plane = paddedWidth * paddedHeight, out = new Float32Array(3 * plane);
  const isSame = w === width && h === height;
  const [left, right, partX] = isSame ? [] : steps(width, w);
  const [above, below, partY] = isSame ? [] : steps(height, h);
  for (let y = 0; y < h; y++) {
    for (let x = 0, at = y * paddedWidth; x < w; x++, at++) {
      if (isSame) {
        const from = 4 * (y * width + x);
        out[at] = pixels[from + 2];
        out[plane + at] = pixels[from + 1];
        out[2 * plane + at] = pixels[from];
        continue;
      }
      const a = 4 * (above[y] * width + left[x]), b = 4 * (above[y] * width + right[x]);
      const c = 4 * (below[y] * width + left[x]), d = 4 * (below[y] * width + right[x]);
      const px = partX[x], py = partY[y];
      for (let channel = 0; channel < 3; channel++) {
        const top = pixels[a + channel] * (1 - px) + pixels[b + channel] * px;
        const bottom = pixels[c + channel] * (1 - px) + pixels[d + channel] * px;
        out[(2 - channel) * plane + at] = Math.round(top * (1 - py) + bottom * py);
      }
    }
  }
  return out;
}

/** For each of `to` pixels the two of `from` that it lies between, and how far it is to the second. */
function steps(from, to) {
  const first = new Int32Array(to), second = new Int32Array(to), part = new Float32Array(to);
  for (let i = 0; i < to; i++) {
    const place = Math.min(Math.max((i + 0.5) * from / to - 0.5, 0), from - 1);
    first[i] = Math.floor(place);
    second[i] = Math.min(first[i] + 1, from - 1);
    part[i] = place - first[i];
  }
  return [first, second, part];
}

/** The network's outputs (name -> Float32Array) -> faces in pixels of the picture, best first. */
export function faces(detector, outputs, { padded: [width, height], back }, threshold) {
  const found = detector.output === "decoded"
    ? ofDecoded(outputs, threshold)
    : ofLevels(detector.head, outputs, width, height, threshold);
  const rule = detector.evaluation;
  const candidates = found
    .filter(({ box: [x1, y1, x2, y2] }) => x2 >= x1 && y2 >= y1 && Math.max(-x1, -y1, x2, y2) <= FARTHEST)
    .sort((one, other) => other.score - one.score)
    .slice(0, rule.max_candidates ?? undefined);
  const slack = rule.nms_union_slack * width * height;
  const kept = [];
  for (const face of candidates) {
    if (kept.length === rule.max_detections) break;
    if (kept.every((better) => overlap(better.box, face.box, slack) <= rule.nms_iou_threshold)) kept.push(face);
  }
  const own = (values) => values.map((value, i) => value * back[i % 2]);
  return kept.map(({ box, score, points }) => ({ box: own(box), score, points: points && own(points) }));
}

function overlap(one, other, slack) {
  const shared = Math.max(0, Math.min(one[2], other[2]) - Math.max(one[0], other[0]))
    * Math.max(0, Math.min(one[3], other[3]) - Math.max(one[1], other[1]));
  const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
  return shared / (area(one) + area(other) + slack - shared);
}

function ofDecoded({ boxes, scores, landmarks }, threshold) {
  const found = [];
  scores.forEach((score, i) => {
    if (!(score > threshold)) return;
    const points = landmarks && [...landmarks.subarray(10 * i, 10 * i + 10)];
    found.push({ box: [...boxes.subarray(4 * i, 4 * i + 4)], score, points });
  });
  return found;
}

function ofLevels(head, outputs, width, height, threshold) {
  const found = [];
  head.strides.forEach((stride, level) => {
    const rows = Math.ceil(height / stride), columns = Math.ceil(width / stride);
    const sizes = head.prior_sizes_wh[level], classes = head.classes;
    const [cls, obj, bbox, kps] = ["cls", "obj", "bbox", "kps"].map((kind) => outputs[`${kind}_${stride}`]);
    const stepX = head.fits_cells ? width / columns : stride, stepY = head.fits_cells ? height / rows : stride;
    for (let i = 0; i < rows * columns * sizes.length; i++) {
      const score = cls[i * classes + head.face_column] * (obj ? obj[i] : 1);
      if (!(score > threshold)) continue;
      const cell = Math.floor(i / sizes.length), [w, h] = sizes[i % sizes.length];
      let prior = [(cell % columns + head.cell_offset) * stepX, (Math.floor(cell / columns) + head.cell_offset) * stepY, w, h];
      if (head.fits_cells) prior = prior.map((value, k) => Math.min(value, k % 2 ? height : width));
      let box = decodeBox(head.coder, prior, bbox.subarray(4 * i, 4 * i + 4), stride);
      if (head.clips_boxes) box = box.map((value, k) => Math.min(Math.max(value, 0), k % 2 ? height : width));
      const points = kps && decodePoints(head.coder, prior, [...kps.subarray(10 * i, 10 * i + 10)], stride);
      found.push({ box, score, points });
    }
  });
  return found;
}

function decodeBox(coder, [cx, cy, w, h], [a, b, c, d], stride) {
  if (coder.kind === "distance") {
    const unit = coder.in_strides ? stride : 1;
    return [cx - a * unit, cy - b * unit, cx + c * unit, cy + d * unit];
  }
  const x = cx + a * w * coder.centre_variance, y = cy + b * h * coder.centre_variance;
  const halfW = w * Math.exp(c * coder.size_variance) / 2, halfH = h * Math.exp(d * coder.size_variance) / 2;
  return [x - halfW, y - halfH, x + halfW, y + halfH];
}

function decodePoints(coder, [cx, cy, w, h], deltas, stride) {
  const unit = coder.in_strides ? stride : 1;
  return deltas.map((delta, i) => coder.kind === "distance"
    ? (i % 2 ? cy : cx) + delta * unit
    : (i % 2 ? cy + delta * h * coder.centre_variance : cx + delta * w * coder.centre_variance));
}
