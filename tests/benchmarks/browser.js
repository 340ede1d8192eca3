// @ts-check
/** The page's half of browser.py: both runtimes on the same inputs, taking turns. */

/** @type {Record<string, any>} */
const TYPES = {
  float32: Float32Array, float64: Float64Array, int64: BigInt64Array, int32: Int32Array, bool: Uint8Array,
  uint8: Uint8Array, int8: Int8Array, float16: Uint16Array,
};

let dispatches = 0;
for (const name of /** @type {const} */ (["dispatchWorkgroups", "dispatchWorkgroupsIndirect"])) {
  const plain = /** @type {any} */ (GPUComputePassEncoder.prototype)[name];
  /** @type {any} */ (GPUComputePassEncoder.prototype)[name] = function (/** @type {any[]} */ ...words) {
    dispatches++;
    return plain.apply(this, words);
  };
}

/** @param {any} settings */
export async function measure(settings) {
  performance.setResourceTimingBufferSize(10000);
  const inputs = await arrays(settings.folder, settings.inputs);
  const wanted = await arrays(settings.folder, settings.outputs);
  const ours = await side(() => tamago(settings, inputs), wanted);
  const theirs = await side(() => onnxruntime(settings, inputs), wanted);
  const until = performance.now() + settings.seconds * 1000;
  for (let round = 0; (performance.now() < until || round < 3) && round < 200; round++)
    for (const one of round % 2 ? [ours, theirs] : [theirs, ours]) one.samples.push(await timed(one.run));
  const ratios = ours.samples.map((ms, i) => theirs.samples[i] / ms);
  const report = (/** @type {any} */ s) => ({ first: s.first, steady: median(s.samples), best: Math.min(...s.samples), dispatches: s.dispatches, error: s.error, fetched: s.fetched, tuning: s.tuning });
  return {
    ours: report(ours), theirs: report(theirs), adapter: ours.adapter, rounds: ratios.length,
    firstRatio: theirs.first / ours.first, steadyRatio: median(ratios),
  };
}

/** From nothing to the first answer, then what one run does. @param {() => Promise<any>} open @param {Map<string, any>} wanted */
async function side(open, wanted) {
  performance.clearResourceTimings();
  const begin = performance.now();
  const { run, finish = () => null, adapter } = await open();
  const outputs = await run();
  const first = performance.now() - begin;
  const fetched = [...new Set(performance.getEntriesByType("resource").map((e) => e.name))].filter((url) => url.startsWith("http"));
  const error = Math.max(...Array.from(wanted, ([name, right]) => difference(right, outputs[name])));
  const tuning = await finish();
  dispatches = 0;
  await run();
  return { run, first, fetched, error, adapter, tuning, dispatches, samples: /** @type {number[]} */ ([]) };
}

/** @param {any} settings @param {Map<string, any>} inputs */
async function tamago({ folder, tune }, inputs) {
  const { load } = await import(`${folder}site/tamago.js`);
  const model = await load(`${folder}site/model.json`, { records: false });
  const states = new Set(Object.values(model.state));
  const given = Object.fromEntries([...inputs].filter(([name]) => !states.has(name)));
  return {
    adapter: Object.values(model.adapter).filter((word) => word && word !== true).join(" "),
    run: () => (states.size && model.reset(), model.run(given)),
    finish: () => (tune > 0 ? model.tune({ seconds: tune }) : null),
  };
}

/** @param {any} settings @param {Map<string, any>} inputs */
async function onnxruntime({ folder, inputs: described }, inputs) {
  const ort = await import(/** @type {any} */ ("/ort/ort.webgpu.min.mjs"));
  ort.env.wasm.wasmPaths = "/ort/";
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(`${folder}model.onnx`, { executionProviders: ["webgpu"] });
  const feeds = Object.fromEntries(described.map((/** @type {any} */ d) => [d.name, new ort.Tensor(d.dtype, inputs.get(d.name), d.shape)]));
  return {
    run: async () => Object.fromEntries(Object.entries(await session.run(feeds)).map(([name, tensor]) => [name, /** @type {any} */ (tensor).data])),
  };
}

/** @param {string} folder @param {any[]} described */
async function arrays(folder, described) {
  /** @type {Map<string, any>} */
  const found = new Map();
  for (const { name, file, dtype } of described) found.set(name, new TYPES[dtype](await (await fetch(folder + file)).arrayBuffer()));
  return found;
}

/** @param {() => Promise<unknown>} run */
async function timed(run) {
  const begin = performance.now();
  await run();
  return performance.now() - begin;
}

/** Relative to the largest magnitude. @param {any} right @param {any} found */
function difference(right, found) {
  if (right.length !== found?.length) return Infinity;
  let [scale, apart] = [0, 0];
  for (let i = 0; i < right.length; i++) {
    const [a, b] = [Number(right[i]), Number(found[i])];
    scale = Math.max(scale, Math.abs(a));
    if (!Object.is(a, b)) apart = Math.max(apart, Math.abs(a - b) || 0, Number.isNaN(a) !== Number.isNaN(b) ? Infinity : 0);
  }
  return apart && apart / scale;
}

/** @param {number[]} values */
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
