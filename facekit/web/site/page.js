// The page: where pictures come from, what is drawn, what the controls do. The network runs in worker.js.

const MOST_SHOWN = 1600; // pixels; larger pictures are shown, and looked at, scaled down to it
const COVERED_SCORE = 0.3; // least, once faces are to be blurred
const BLOCKS = 6; // a side, of a blurred face: all that is left of it
const MARGIN = 0.15; // of a box's sides, that is blurred around it

const part = (id) => document.getElementById(id);
const view = part("view"), pen = view.getContext("2d");
const still = new OffscreenCanvas(1, 1), stillPen = still.getContext("2d", { willReadFrequently: true });
const blocks = new OffscreenCanvas(BLOCKS, BLOCKS), blocksPen = blocks.getContext("2d");
const worker = new Worker("worker.js", { type: "module" });
const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });

let detector = null, picture = null, stream = null, sources = 0, isBusy = false, asked = "", found = [], times = [];

function say(text, isBad = false) {
  part("status").textContent = text;
  part("status").classList.toggle("bad", isBad);
}

worker.onmessage = ({ data }) => {
  if (data.fatal) return say(`The detector can't be loaded: ${data.fatal}`, true);
  if (data.ready) return begin(data.ready);
  isBusy = false;
  if (data.error) return say(`The picture can't be looked at: ${data.error}`, true);
  if (asked !== wish()) return look(); // of a picture, or with settings, that are no longer meant
  found = data.faces;
  show(data.ms);
  if (stream) look();
};
worker.onerror = () => say("The detector can't be loaded.", true);

function begin({ detector: opened, threads }) {
  detector = opened;
  for (const id of ["camera", "file", "sample"]) part(id).disabled = false;
  part("camera").disabled = !navigator.mediaDevices?.getUserMedia;
  part("threads").textContent = threads;
  part("longest-control").hidden = detector.input.resize !== "none";
  part("landmarks-control").hidden = !detector.has_landmarks;
  say("Ready. Start the camera, or open, drop or paste a picture.");
  document.dispatchEvent(new Event("ready"));
}

/** What is to be looked at, and how. */
function wish() {
  return JSON.stringify([sources, Number(part("longest").value), Number(part("threshold").value)]);
}

/** Takes what is there now, picture or frame, and sends its pixels to the worker; one at a time. */
async function look() {
  if (isBusy || !detector || !(stream || picture)) return;
  isBusy = true;
  if (stream) await nextFrame();
  const source = stream ? video : picture;
  if (!source) { isBusy = false; return; } // the camera was stopped meanwhile
  asked = wish();
  const [width, height] = [source.videoWidth ?? source.width, source.videoHeight ?? source.height];
  const scale = Math.min(1, MOST_SHOWN / Math.max(width, height));
  still.width = Math.max(1, Math.round(width * scale));
  still.height = Math.max(1, Math.round(height * scale));
  stillPen.drawImage(source, 0, 0, still.width, still.height);
  const { data } = stillPen.getImageData(0, 0, still.width, still.height);
  const [, longest, threshold] = JSON.parse(asked);
  worker.postMessage({ pixels: data.buffer, width: still.width, height: still.height, longest, threshold }, [data.buffer]);
}

function nextFrame() {
  const isOver = new Promise((done) => setTimeout(done, 250)); // a camera may stall, or be gone
  return Promise.race([isOver, new Promise((done) => video.requestVideoFrameCallback?.(done) ?? setTimeout(done, 16))]);
}

function show(ms) {
  draw();
  part("frame").classList.add("full");
  part("save").disabled = false;
  part("count").textContent = found.length;
  part("ms").textContent = `${ms.toFixed(0)} ms`;
  times = [...times, performance.now()].slice(-20);
  const seconds = (times.at(-1) - times[0]) / 1000;
  part("fps").textContent = stream && seconds ? ((times.length - 1) / seconds).toFixed(1) : "-";
  const told = `${found.length} ${found.length === 1 ? "face" : "faces"} found`;
  if (view.getAttribute("aria-label") !== told) {
    view.setAttribute("aria-label", told);
    say(stream ? `Camera: ${told}.` : `${told[0].toUpperCase()}${told.slice(1)}.`);
  }
  // For who builds on this page: document.addEventListener("faces", (event) => event.detail)
  document.dispatchEvent(new CustomEvent("faces", { detail: { width: still.width, height: still.height, faces: found, ms } }));
}

function draw() {
  Object.assign(view, { width: still.width, height: still.height });
  pen.drawImage(still, 0, 0);
  const line = Math.max(2, Math.max(view.width, view.height) / 300);
  for (const { box: [x1, y1, x2, y2], score, points } of found) {
    if (part("blur").checked) blur(x1, y1, x2, y2);
    if (part("boxes").checked) {
      pen.lineWidth = line;
      pen.strokeStyle = "#3cdc50";
      pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
      pen.font = `600 ${7 * line}px system-ui, sans-serif`;
      const text = score.toFixed(2), wide = pen.measureText(text).width + 4 * line, top = Math.max(0, y1 - 9 * line);
      pen.fillStyle = "#3cdc50";
      pen.fillRect(x1 - line / 2, top, wide, 9 * line);
      pen.fillStyle = "#0c1a10";
      pen.fillText(text, x1 + 1.5 * line, top + 7 * line);
    }
    if (part("landmarks").checked && points) {
      points.forEach((x, i) => { if (i % 2 === 0) dot(x, points[i + 1], 1.4 * line, i / 2); });
    }
  }
}

function dot(x, y, radius, which) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fillStyle = ["#5050ff", "#ff5050", "#dcdc3c", "#ff50ff", "#ffc850"][which];
  pen.fill();
}

/** Puts BLOCKS x BLOCKS averages in a face's place: no sharpening brings back what is not there. */
function blur(x1, y1, x2, y2) {
  const [growX, growY] = [MARGIN * (x2 - x1), MARGIN * (y2 - y1)];
  const [x, y, w, h] = [x1 - growX, y1 - growY, x2 - x1 + 2 * growX, y2 - y1 + 2 * growY];
  blocksPen.drawImage(still, x, y, w, h, 0, 0, BLOCKS, BLOCKS);
  pen.save();
  pen.beginPath();
  pen.ellipse(x + w / 2, y + h / 2, w / 2, h / 2, 0, 0, 2 * Math.PI);
  pen.clip();
  pen.drawImage(blocks, x, y, w, h);
  pen.restore();
}

async function open(blob) {
  try {
    const opened = await createImageBitmap(blob);
    stopCamera();
    [picture, sources] = [opened, sources + 1];
    say("Looking ...");
    view.setAttribute("aria-label", "");
    look();
  } catch {
    say("This is no picture that the browser can read.", true);
  }
}

async function startCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 640 } } });
  } catch (error) {
    return say(`There is no camera to use: ${error.message}.`, true);
  }
  video.srcObject = stream;
  await video.play();
  [times, picture, sources] = [[], null, sources + 1];
  part("camera").textContent = "Stop camera";
  part("camera").setAttribute("aria-pressed", "true");
  look();
}

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  [stream, video.srcObject, sources] = [null, null, sources + 1];
  part("camera").textContent = "Camera";
  part("camera").setAttribute("aria-pressed", "false");
  part("fps").textContent = "-";
}

part("camera").onclick = () => (stream ? (stopCamera(), say("The camera is off.")) : startCamera());
part("sample").onclick = async () => open(await (await fetch("sample.jpg")).blob());
part("file").onchange = ({ target }) => { if (target.files[0]) open(target.files[0]); target.value = ""; };
part("threshold").oninput = ({ target }) => {
  part("threshold-value").textContent = Number(target.value).toFixed(2);
  look();
};
part("longest").onchange = look;
part("blur").addEventListener("change", ({ target }) => { // a face that is missed stays bare
  if (!target.checked || Number(part("threshold").value) <= COVERED_SCORE) return;
  part("threshold").value = COVERED_SCORE;
  part("threshold").dispatchEvent(new Event("input"));
});
for (const id of ["blur", "boxes", "landmarks"]) part(id).onchange = () => { if (!part("save").disabled) draw(); };
part("save").onclick = () => view.toBlob((blob) => {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: "faces.png" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
document.addEventListener("paste", ({ clipboardData }) => { if (detector && clipboardData.files[0]) open(clipboardData.files[0]); });
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // a picture that misses the frame must not replace the page
    part("frame").classList.toggle("over", kind.startsWith("dragen") || kind === "dragover");
    if (kind === "drop" && detector && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
}
