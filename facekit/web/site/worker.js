// Runs the network beside the page, so that the page stays quick. Pictures come in, faces go out.

import * as ort from "./ort.wasm.bundle.min.mjs";
import { faces, plan, planes } from "./decode.js";

// Threads need shared memory, which browsers give to isolated pages alone (README.md says which headers make one).
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
ort.env.logLevel = "error";

let detector, session;

async function open() {
  detector = await (await fetch("detector.json")).json();
  session = await ort.InferenceSession.create("detector.onnx", { executionProviders: ["wasm"] });
  const { size_hw: [height, width] } = detector.input; // the first run is slow: it is not to be the user's
  await look(new Uint8ClampedArray(4 * width * height), width, height, Infinity, 1);
  self.postMessage({ ready: { detector, threads: ort.env.wasm.numThreads } });
}

async function look(pixels, width, height, longest, threshold) {
  const way = plan(detector, width, height, longest);
  const [paddedWidth, paddedHeight] = way.padded;
  const image = new ort.Tensor("float32", planes(pixels, width, height, way), [1, 3, paddedHeight, paddedWidth]);
  const said = await session.run({ [session.inputNames[0]]: image });
  const arrays = Object.fromEntries(Object.entries(said).map(([name, tensor]) => [name, tensor.data]));
  return faces(detector, arrays, way, threshold);
}

self.onmessage = async ({ data: { pixels, width, height, longest, threshold } }) => {
  const started = performance.now();
  try {
    const found = await look(new Uint8ClampedArray(pixels), width, height, longest, threshold);
    self.postMessage({ faces: found, ms: performance.now() - started });
  } catch (error) {
    self.postMessage({ error: String(error?.message ?? error) });
  }
};

open().catch((error) => self.postMessage({ fatal: String(error?.message ?? error) }));
