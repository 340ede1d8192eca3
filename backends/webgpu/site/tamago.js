// @ts-check
/**
 * Runs a plan made by tamago on WebGPU: one module, nothing else to load, no network but the model's own files.
 * The types of what is exported are in tamago.d.ts.
 */

/**
 * @typedef {import("./tamago").Interface & {buffer: number, stored: string}} Interface
 * @typedef {import("./tamago").Values} Values
 * @typedef {import("./tamago").Array} Numbers
 * @typedef {{source: string, written: boolean[], features: string[]}} Kernel
 * @typedef {{kernel: number, workgroups: [number, number, number]}} Choice
 * @typedef {{label: string, buffers: number[], choices: Choice[]}} Dispatch
 * @typedef {{source: number, target: number, bytes: number}} Copy
 * @typedef {{dispatch?: Dispatch, copy?: Copy}} Step
 * @typedef {{format: number, size: Record<string, number>, hash: string, buffers: number[], steps: Step[],
 *   inputs: Interface[], outputs: Interface[], state: Record<string, string>}} Plan
 * @typedef {{pipeline: GPUComputePipeline, group: GPUBindGroup, workgroups: number[]}} Bound
 * @typedef {{file: string, bytes: number, sha256: string, tensors: Record<string, [string, number]>}} Shard
 * @typedef {{name: string, app: any, kernels: Kernel[], weights: Record<string, string>, setup: Step[], spent: number[],
 *   shared: number, plans: Plan[], shards: Shard[]}} Bundle `shared`: buffers that all plans have, the first of each
 * @typedef {{features: string[], limits: Record<string, number>, choices: boolean[][], refusal: string}} Needs
 * @typedef {{features: {has(name: string): boolean}, limits: any}} Adapter
 */

const KIND = "tamago-web";
const [ONE, SEVERAL] = [2, 3]; // formats: a single plan, and plans that share what does not depend on the size
const PLAN_FORMAT = 2;
const STEPS_A_SUBMIT = 32; // the browser's own drawing comes between two submits
const FEATURES = new Map([["f16", "shader-f16"], ["subgroups", "subgroups"]]);
const POISON = 0xc5; // -6328.7 as f32, -5.77 as f16: what a kernel leaves unwritten is seen
const CLOSE = { f16: 4e-3, f32: 1e-3 }; // of the largest magnitude; integers must be equal
const GAIN = 0.97; // a choice must be this much faster than the one it replaces
const SAMPLE_MS = 4; // browsers round GPU timestamps to 0.1 ms

/** @type {Record<string, any>} */
const ARRAYS = {
  float32: Float32Array, float16: Float32Array, bfloat16: Float32Array, float64: Float64Array,
  double: Float64Array, bool: Uint8Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array,
  uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
};
/** What the device holds of a 64 bit integer is 32 bits of it. @type {Record<string, [number, number]>} */
const RANGES = {
  bool: [0, 1], int8: [-128, 127], uint8: [0, 255], int16: [-32768, 32767], uint16: [0, 65535],
  int32: [-(2 ** 31), 2 ** 31 - 1], uint32: [0, 2 ** 32 - 1], int64: [-(2 ** 31), 2 ** 31 - 1], uint64: [0, 2 ** 32 - 1],
};

/** Whether this page can run models at all; `load` says why not. */
export async function supported() {
  return requestAdapter().then(() => true, () => false);
}

/**
 * Fetch a bundle, compile its kernels, put its weights on the device.
 * @param {string | URL} url
 * @param {{onProgress?: (p: import("./tamago").Progress) => void, device?: GPUDevice, records?: boolean}} [options]
 */
export async function load(url, { onProgress, device, records = true } = {}) {
  const adapter = device ? null : await requestAdapter(); // before any byte is fetched in vain
  const place = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  const bundle = checkBundle(parse(await fetchText(place), place), place);
  const needs = requirements(bundle, /** @type {any} */ (device ?? adapter));
  const model = new Model(bundle, device ?? (await requestDevice(/** @type {any} */ (adapter), needs)), needs, {
    info: /** @type {any} */ (adapter ?? device).info ?? /** @type {any} */ (device)?.adapterInfo ?? {},
    owned: !device, records,
  });
  try {
    return await model._prepare(place, onProgress ?? (() => {}));
  } catch (error) {
    model.dispose();
    throw error;
  }
}

// ---------------------------------------------------------------- the device

async function requestAdapter() {
  if (globalThis.isSecureContext === false)
    throw new Error("WebGPU needs a secure page: open it over https, or on http://localhost.");
  const gpu = globalThis.navigator?.gpu;
  if (!gpu) throw new Error("This browser has no WebGPU. Use a current Chrome, Edge, Safari or Firefox.");
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter)
    throw new Error(
      "This browser has WebGPU, but no graphics adapter that it may use. Update the graphics driver, or switch " +
        "hardware acceleration on in the browser's settings.",
    );
  return adapter;
}

/** @param {GPUAdapter} adapter @param {Needs[]} needs */
async function requestDevice(adapter, needs) {
  /** @type {Record<string, number>} */
  const limits = {};
  for (const one of needs) atLeast(limits, one.limits);
  const optional = adapter.features.has("timestamp-query") ? ["timestamp-query"] : [];
  try {
    return await adapter.requestDevice({
      requiredFeatures: /** @type {any} */ ([...new Set(needs.flatMap((one) => one.features)), ...optional]),
      requiredLimits: limits,
    });
  } catch (error) {
    throw new Error(`The graphics adapter gave no device: ${message(error)}`);
  }
}

/**
 * What each plan asks of an adapter. One that the adapter cannot run is refused when it is wanted: others may be smaller.
 * @param {Bundle} bundle @param {Adapter} adapter @returns {Needs[]}
 */
function requirements(bundle, adapter) {
  const kernels = bundle.kernels.map((kernel) => kernelNeeds(kernel, adapter));
  return bundle.plans.map((plan, number) => {
    try {
      return { ...planNeeds(bundle, plan, kernels, adapter), refusal: "" };
    } catch (error) {
      if (!number) throw error; // the first is what is loaded
      return { features: [], limits: {}, choices: [], refusal: message(error) };
    }
  });
}

/**
 * What a plan asks of an adapter, and which choices of each dispatch that adapter can run.
 * @param {Bundle} bundle @param {Plan} plan @param {Record<string, number>[]} kernels what each needs @param {Adapter} adapter
 */
function planNeeds(bundle, plan, kernels, adapter) {
  /** @type {Record<string, number>} */
  const limits = {};
  const features = new Set();
  const largest = Math.max(4, ...plan.buffers);
  atLeast(limits, { maxBufferSize: largest, maxStorageBufferBindingSize: largest });
  const lacking = lack(limits, adapter);
  if (lacking) throw new Error(`This graphics adapter is too small for the model: ${lacking}.`);
  /** @param {Dispatch} dispatch */
  const usableOf = (dispatch) => {
    const reasons = new Set();
    const usable = dispatch.choices.map((choice) => {
      const kernel = bundle.kernels[choice.kernel];
      const wanted = { ...kernels[choice.kernel], maxComputeWorkgroupsPerDimension: Math.max(...choice.workgroups) };
      const missing = kernel.features.find((f) => !adapter.features.has(FEATURES.get(f) ?? f));
      const reason = missing ? `it has no ${FEATURES.get(missing) ?? missing}` : lack(wanted, adapter);
      if (reason) reasons.add(reason);
      else kernel.features.forEach((f) => features.add(FEATURES.get(f) ?? f)), atLeast(limits, wanted);
      return !reason;
    });
    if (!usable.includes(true))
      throw new Error(`This graphics adapter cannot run ${dispatch.label}: ${[...reasons].join("; ")}.`);
    return usable;
  };
  dispatchesOf(bundle.setup).forEach(usableOf);
  const choices = dispatchesOf(plan.steps).map(usableOf);
  return { features: [...features], limits, choices };
}

/** @param {Record<string, number>} limits @param {Record<string, number>} wanted */
function atLeast(limits, wanted) {
  for (const [name, value] of Object.entries(wanted)) limits[name] = Math.max(limits[name] ?? 0, value);
}

/** @param {Record<string, number>} wanted @param {Adapter} adapter */
function lack(wanted, adapter) {
  const short = Object.entries(wanted).find(([name, value]) => value > (adapter.limits[name] ?? 0));
  return short ? `${short[0]} is ${adapter.limits[short[0]]}, ${short[1]} is needed` : "";
}

/** @param {Kernel} kernel @param {Adapter} adapter */
function kernelNeeds(kernel, adapter) {
  /** @type {Record<string, number>} */
  const limits = { maxStorageBuffersPerShaderStage: kernel.written.length };
  const constants = new Map([...kernel.source.matchAll(/\bconst\s+(\w+)[^=;]*=([^;]*);/g)].map((m) => [m[1], m[2]]));
  const size = /@workgroup_size\(([^)]*)\)/.exec(kernel.source)?.[1].split(",").filter((t) => t.trim()) ?? [];
  const [x, y = 1, z = 1] = size.map((text) => integer(text, constants));
  if (x * y * z > 0)
    atLeast(limits, {
      maxComputeWorkgroupSizeX: x, maxComputeWorkgroupSizeY: y, maxComputeWorkgroupSizeZ: z,
      maxComputeInvocationsPerWorkgroup: x * y * z,
    });
  let shared = 0;
  for (const [, type] of kernel.source.matchAll(/var<workgroup>\s*\w+\s*:\s*([^;]+);/g))
    shared += Math.ceil(typeBytes(type.trim(), constants) / 16) * 16;
  // A type that this cannot read: whatever the adapter has.
  limits.maxComputeWorkgroupStorageSize = shared >= 0 ? shared : adapter.limits.maxComputeWorkgroupStorageSize;
  return limits;
}

/** A product of literals and constants; NaN for what is more than that. @param {string} text @param {Map<string, string>} constants @returns {number} */
function integer(text, constants) {
  return text.split("*").reduce((product, factor) => {
    const word = factor.trim();
    const literal = /^(\d+)[ui]?$/.exec(word);
    if (literal) return product * Number(literal[1]);
    const named = constants.get(word);
    return product * (named === undefined || named.trim() === word ? NaN : integer(named, constants));
  }, 1);
}

/** @param {string} type @param {Map<string, string>} constants @returns {number} */
function typeBytes(type, constants) {
  const array = /^array<(.+),([^,<>]+),?\s*>$/s.exec(type);
  if (array) return typeBytes(array[1].trim(), constants) * integer(array[2], constants);
  const vector = /^vec([234])(?:<(\w+)>|([fhiu]))$/.exec(type);
  if (vector) return (vector[1] === "2" ? 2 : 4) * (vector[2] === "f16" || vector[3] === "h" ? 2 : 4);
  if (type === "f16") return 2;
  return /^([fiu]32|atomic<[iu]32>|bool)$/.test(type) ? 4 : NaN;
}

// ---------------------------------------------------------------- files

/** @param {URL} place */
async function get(place) {
  let response;
  try {
    response = await fetch(place);
  } catch (error) {
    throw new Error(`${nameOf(place)} could not be fetched: ${message(error)}`);
  }
  if (!response.ok) throw new Error(`${nameOf(place)} could not be fetched: HTTP status ${response.status}`);
  return response;
}

/** @param {URL} place */
const fetchText = async (place) => (await get(place)).text();

/** @param {string} text @param {URL} place */
function parse(text, place) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${nameOf(place)} is not JSON: ${message(error)}`);
  }
}

/** A bundle of either format in the form of the later one. @param {any} bundle @param {URL} place @returns {Bundle} */
function checkBundle(bundle, place) {
  if (bundle?.kind !== KIND) throw new Error(`${nameOf(place)} was not written by tamago.`);
  const plans = bundle.format === ONE ? [bundle.plan] : bundle.format === SEVERAL ? bundle.plans : [];
  if (!plans?.length || plans.some((/** @type {any} */ plan) => plan?.format !== PLAN_FORMAT))
    throw new Error(`${nameOf(place)} has format ${bundle.format}; this tamago.js reads formats ${ONE} and ${SEVERAL}.`);
  if (bundle.format === SEVERAL) return bundle;
  const { plan, hash } = bundle;
  return { ...bundle, ...plan, shared: plan.buffers.length, plans: [{ ...plan, hash, size: {} }] };
}

/**
 * All bytes of a shard, known to be the right ones.
 * @param {URL} place @param {Shard} shard @param {(bytes: number) => void} arrived
 */
async function fetchShard(place, shard, arrived) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ ((await get(place)).body).getReader();
  const bytes = new Uint8Array(shard.bytes);
  let filled = 0;
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw new Error(`${shard.file} broke off after ${filled} of ${shard.bytes} bytes: ${message(error)}`);
    });
    if (done) break;
    if (filled + value.length <= shard.bytes) bytes.set(value, filled);
    filled += value.length;
    if (filled > shard.bytes) await reader.cancel();
    arrived(value.length);
  }
  if (filled !== shard.bytes) throw new Error(`${shard.file} has ${filled} bytes where ${shard.bytes} were written.`);
  if (globalThis.crypto?.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (found !== shard.sha256) throw new Error(`${shard.file} is damaged: its SHA-256 is not the one in model.json.`);
  }
  return bytes;
}

/** Tensors of a safetensors file: 8 bytes of length, JSON, data. @param {Uint8Array<ArrayBuffer>} file @param {string} name */
function tensorsOf(file, name) {
  const length = file.length < 8 ? NaN : Number(new DataView(file.buffer).getBigUint64(0, true));
  if (!(8 + length <= file.length)) throw new Error(`${name} is not a safetensors file.`);
  const header = parse(new TextDecoder().decode(file.subarray(8, 8 + length)), new URL(name, "file:///"));
  return (/** @type {string} */ key) => {
    const [from, to] = (Object.hasOwn(header, key) && header[key].data_offsets) || [0, NaN];
    if (!(from <= to && 8 + length + to <= file.length)) throw new Error(`${name} lacks the tensor ${key}.`);
    return file.subarray(8 + length + from, 8 + length + to);
  };
}

/** @param {URL} place */
const nameOf = (place) => place.pathname.split("/").pop() || place.pathname;

/** @param {unknown} error */
const message = (error) => (error instanceof Error ? error.message : String(error));

// ---------------------------------------------------------------- values

/** @param {Interface} one */
const lengthOf = (one) => one.shape.reduce((product, size) => product * size, 1);

/** Bytes of an interface in its buffer, rounded up to what can be copied. @param {Interface} one */
const bytesOf = (one) => Math.ceil((lengthOf(one) * (one.stored === "f16" ? 2 : 4)) / 4) * 4;

/** @param {Interface} one */
const takesFloats = (one) => one.dtype.includes("float") || one.dtype === "double";

/** Refuse what is no numbers, or others than the input takes; how many is for others to say. @param {Interface} one @param {any} given */
function checkKind(one, given) {
  const floats = takesFloats(one);
  const takes = `input ${JSON.stringify(one.name)} takes ${one.dtype} as a ${ARRAYS[one.dtype]?.name ?? "typed array"} or an array of numbers`;
  if (!Array.isArray(given) && (!ArrayBuffer.isView(given) || given instanceof DataView))
    throw new TypeError(`${takes}, not ${given === null ? "null" : typeof given}.`);
  const name = given.constructor.name;
  if (Array.isArray(given)) {
    const odd = given.find((v) => !["number", "boolean", "bigint"].includes(typeof v) || (floats && typeof v === "bigint"));
    if (odd !== undefined || given.includes(undefined)) throw new TypeError(`${takes}; one element is ${typeof odd}.`);
  } else if (floats !== /^Float/.test(name)) throw new TypeError(`${takes}, not a ${name}.`);
}

/** An input of the right kind as the device stores it, in memory of its own. @param {Interface} one @param {any} given */
function toStored(one, given) {
  const length = lengthOf(one);
  const where = `input ${JSON.stringify(one.name)}`;
  const values = /** @type {any} */ (given);
  if (values.length !== length)
    throw new RangeError(`${where} has ${values.length} elements where its shape [${one.shape}] has ${length}.`);
  const bytes = new ArrayBuffer(bytesOf(one));
  const stored = new (one.stored === "f32" ? Float32Array : one.stored === "i32" ? Int32Array : one.stored === "u32" ? Uint32Array : Uint16Array)(bytes);
  if (takesFloats(one)) {
    if (one.stored === "f16") for (let i = 0; i < length; i++) stored[i] = toHalf(Number(values[i]));
    else stored.set(values);
    return stored;
  }
  const [low, high] = RANGES[one.dtype] ?? RANGES.int64;
  for (let i = 0; i < length; i++) {
    const value = Number(values[i]);
    if (!Number.isInteger(value)) throw new RangeError(`${where} takes integers; element ${i} is ${values[i]}.`);
    if (value < low || value > high)
      throw new RangeError(`${where} takes ${low} to ${high} here; element ${i} is ${values[i]}.`);
    stored[i] = value;
  }
  return stored;
}

/** An output in the model's own type. @param {Interface} one @param {ArrayBuffer} bytes */
function fromStored(one, bytes) {
  const length = lengthOf(one);
  if (one.stored === "f16") return (ARRAYS[one.dtype] ?? Float32Array).from(new Uint16Array(bytes, 0, length), fromHalf);
  const stored = new (one.stored === "f32" ? Float32Array : one.stored === "u32" ? Uint32Array : Int32Array)(bytes, 0, length);
  const Type = ARRAYS[one.dtype] ?? stored.constructor;
  if (Type === stored.constructor) return stored;
  return Type === BigInt64Array || Type === BigUint64Array ? Type.from(stored, BigInt) : Type.from(stored);
}

const bits = new DataView(new ArrayBuffer(4));

/** The nearest half, ties to even. @param {number} value */
function toHalf(value) {
  bits.setFloat32(0, value);
  const word = bits.getUint32(0);
  const sign = (word >>> 16) & 0x8000;
  const magnitude = Math.abs(value);
  if (magnitude !== magnitude) return sign | 0x7e00;
  if (magnitude >= 65520) return sign | 0x7c00;
  if (magnitude < 2 ** -14) return sign | even(magnitude * 2 ** 24); // subnormal: a multiple of 2^-24
  bits.setFloat32(0, magnitude);
  const whole = bits.getUint32(0) - (112 << 23);
  return sign | even(whole / 8192);
}

/** @param {number} x */
function even(x) {
  const floor = Math.floor(x);
  return x - floor === 0.5 ? floor + (floor & 1) : Math.round(x);
}

/** @param {number} half */
function fromHalf(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
}

/** Something to run a model on where nobody gave data; zeros for integers, which may be indices. @param {Interface} one */
function madeUp(one) {
  const floats = one.stored[0] === "f";
  return toStored(one, Array.from({ length: lengthOf(one) }, () => (floats ? Math.random() * 2 - 1 : 0)));
}

// ---------------------------------------------------------------- the model

/** @param {Step[]} steps */
const dispatchesOf = (steps) => steps.flatMap((step) => (step.dispatch ? [step.dispatch] : []));

/** The device, and what all sizes of a model have in common on it. */
class Shared {
  trouble = "";
  /** Those that all plans have: weights, what was made of them, states. @type {GPUBuffer[]} */ buffers = [];
  /** @type {Map<string, GPUBindGroupLayout>} */ #layouts = new Map();
  /** @type {Map<number, Promise<{pipeline: GPUComputePipeline, layout: GPUBindGroupLayout}>>} */ #pipelines = new Map();
  /** @type {Map<number, GPUBuffer[]>} */ #spare = new Map();
  /** @type {Promise<unknown>} */ #line = Promise.resolve();

  /** @param {Bundle} bundle @param {GPUDevice} device @param {{info: any, owned: boolean, records: boolean}} options */
  constructor(bundle, device, { info, owned, records }) {
    this.bundle = bundle;
    this.device = device;
    this.owned = owned;
    this.records = records;
    const { vendor = "", architecture = "", device: card = "", description = "" } = info;
    const software = Boolean(info.isFallbackAdapter) || /swiftshader|llvmpipe|lavapipe|basic render/i.test(`${architecture} ${card} ${description}`);
    this.adapter = Object.freeze({ vendor, architecture, device: card, description, software });
    device.lost.then((lost) => {
      this.trouble ||= lost.reason === "destroyed" ? "The model was disposed of." : `The graphics device was lost: ${lost.message || lost.reason}. Load the model again.`;
    });
  }

  /** Work that nothing comes between, in the order of calls. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  inTurn(work) {
    const turn = this.#line.then(work);
    this.#line = turn.catch(() => {});
    return turn;
  }

  /** @param {number[]} sizes in bytes */
  async allocate(sizes) {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    /** @type {GPUBuffer[]} */
    const made = [];
    try {
      await this.scoped(async () => {
        for (const bytes of sizes) made.push(this.device.createBuffer({ size: Math.max(4, bytes), usage }));
      }, "make the model's buffers");
    } catch (error) {
      for (const buffer of made) buffer.destroy();
      throw error;
    }
    return made;
  }

  /** What depends on nothing but weights, once; buffers that nothing else reads are given back. */
  async setUp() {
    const { setup, spent } = this.bundle;
    const ready = await this.scoped(() => Promise.all(dispatchesOf(setup).map((d) => this.bound(this.buffers, d, d.choices[0]))), "bind the weights");
    await this.scoped(async () => this.submit(setup, this.buffers, ready), "prepare the weights");
    for (const buffer of spent) this.buffers[buffer].destroy();
  }

  /** @param {GPUBuffer} buffer @param {Uint8Array<ArrayBuffer>} data @param {number} [offset] */
  write(buffer, data, offset = 0) {
    if (offset + data.length > buffer.size) throw new Error("A weight is larger than its buffer.");
    const whole = data.length & ~3;
    if (whole) this.device.queue.writeBuffer(buffer, offset, data, 0, whole);
    if (whole === data.length) return;
    const rest = new Uint8Array(4); // writes are of whole words
    rest.set(data.subarray(whole));
    this.device.queue.writeBuffer(buffer, offset + whole, rest);
  }

  /** @param {Step[]} steps @param {GPUBuffer[]} buffers @param {Bound[]} ready their dispatches @param {number} [first] number of the first of them */
  submit(steps, buffers, ready, first = 0) {
    let number = first;
    for (let at = 0; at < steps.length; at += STEPS_A_SUBMIT) {
      const encoder = this.device.createCommandEncoder();
      /** @type {GPUComputePassEncoder | null} */
      let pass = null;
      for (const { copy } of steps.slice(at, at + STEPS_A_SUBMIT)) {
        if (copy) {
          pass?.end();
          pass = null;
          encoder.copyBufferToBuffer(buffers[copy.source], 0, buffers[copy.target], 0, copy.bytes);
        } else dispatch((pass ??= encoder.beginComputePass()), ready[number++]);
      }
      pass?.end();
      this.device.queue.submit([encoder.finish()]);
    }
  }

  check() {
    if (this.trouble) throw new Error(this.trouble);
  }

  dispose() {
    this.trouble ||= "The model was disposed of.";
    for (const buffer of [...this.buffers, ...[...this.#spare.values()].flat()]) buffer.destroy();
    if (this.owned) this.device.destroy();
  }

  /** @param {number} bytes */
  staging(bytes) {
    return this.#spare.get(bytes)?.pop() ?? this.device.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  }

  /** @param {GPUBuffer} staging */
  async read(staging) {
    await staging.mapAsync(GPUMapMode.READ);
    const bytes = staging.getMappedRange().slice(0);
    staging.unmap();
    this.#spare.set(staging.size, [...(this.#spare.get(staging.size) ?? []), staging]);
    return bytes;
  }

  /** Do work whose refusal by the device is an error with words. @template T @param {() => Promise<T>} work @param {string} what @returns {Promise<T>} */
  async guarded(work, what) {
    try {
      return await this.scoped(work, what);
    } catch (error) {
      // Where the device was lost, that is the reason, and it is told a little later.
      await Promise.race([this.device.lost, new Promise((resolve) => setTimeout(resolve, 50))]);
      if (this.trouble) throw new Error(this.trouble);
      throw error;
    }
  }

  /** Scopes hold what is asked of the device before the first wait. @template T @param {() => Promise<T>} work @param {string} what @returns {Promise<T>} */
  async scoped(work, what) {
    this.device.pushErrorScope("validation");
    this.device.pushErrorScope("out-of-memory");
    const result = work();
    result.catch(() => {}); // the scopes' words come first
    const [memory, validation] = await Promise.all([this.device.popErrorScope(), this.device.popErrorScope()]).catch(() => [null, null]);
    if (memory) throw new Error(`The graphics device has too little memory to ${what}.`);
    if (validation) throw new Error(`The graphics device refused to ${what}: ${validation.message}`);
    return result;
  }

  /** @param {GPUBuffer[]} all @param {Dispatch} dispatch @param {Choice} choice @returns {Promise<Bound>} */
  async bound(all, { buffers, label }, { kernel, workgroups }) {
    const { pipeline, layout } = await this.pipeline(kernel);
    const entries = buffers.map((b, binding) => ({ binding, resource: { buffer: all[b] } }));
    return { pipeline, group: this.device.createBindGroup({ label, layout, entries }), workgroups };
  }

  /** @param {number} number of a kernel */
  pipeline(number) {
    const known = this.#pipelines.get(number) ?? this.#compile(number);
    this.#pipelines.set(number, known);
    known.catch(() => this.#pipelines.delete(number)); // want of memory may pass
    return known;
  }

  /** @param {number} number of a kernel */
  async #compile(number) {
    const { source, written, features } = this.bundle.kernels[number];
    const device = this.device;
    const code = features.map((feature) => `enable ${feature};\n`).join("") + source;
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label: `kernel ${number}`, code });
    device.popErrorScope().catch(() => {}); // told below, with its lines
    const layout = this.#layout(written);
    try {
      const pipeline = await device.createComputePipelineAsync({
        label: `kernel ${number}`,
        layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: "main" },
      });
      return { pipeline, layout };
    } catch (error) {
      const { messages } = await module.getCompilationInfo();
      const lines = messages.filter((m) => m.type === "error").map((m) => `line ${m.lineNum}: ${m.message}`);
      const all = [this.bundle.setup, ...this.bundle.plans.map((plan) => plan.steps)].flatMap(dispatchesOf);
      const users = all.filter((d) => d.choices.some((c) => c.kernel === number)).map((d) => d.label);
      throw new Error(`This browser refused kernel ${number} (${users[0] ?? "unused"}): ${lines.join("; ") || message(error)}`);
    }
  }

  /** @param {boolean[]} written */
  #layout(written) {
    const key = written.join();
    const entries = written.map((w, binding) => ({
      binding, visibility: GPUShaderStage.COMPUTE,
      buffer: { type: /** @type {GPUBufferBindingType} */ (w ? "storage" : "read-only-storage") },
    }));
    const layout = this.#layouts.get(key) ?? this.device.createBindGroupLayout({ entries });
    this.#layouts.set(key, layout);
    return layout;
  }
}

/** A model, at all sizes that its bundle has. */
class Model {
  #shared;
  #programs;

  /** @param {Bundle} bundle @param {GPUDevice} device @param {Needs[]} needs @param {{info: any, owned: boolean, records: boolean}} options */
  constructor(bundle, device, needs, options) {
    this.#shared = new Shared(bundle, device, options);
    this.#programs = bundle.plans.map((plan, i) => new Program(this.#shared, plan, needs[i]));
    const [first] = this.#programs;
    this.name = bundle.name;
    this.app = bundle.app ?? null;
    this.adapter = this.#shared.adapter;
    this.sizes = Object.freeze(this.#programs.map(({ size }) => size));
    this.inputs = first.inputs;
    this.outputs = first.outputs;
    this.state = first.state;
    this.dispatches = first.dispatches;
    this.labels = first.labels;
  }

  get tuned() {
    return this.#programs[0].tuned;
  }

  /** @param {URL} place @param {(p: import("./tamago").Progress) => void} onProgress */
  async _prepare(place, onProgress) {
    const [first] = this.#programs;
    const compiled = first.compile((done, total) => onProgress({ stage: "compile", done, total }));
    compiled.catch(() => {}); // awaited below, also when a download fails first
    const { shared, plans } = this.#shared.bundle;
    this.#shared.buffers = await this.#shared.allocate(plans[0].buffers.slice(0, shared));
    await this.#fetchWeights(place, onProgress);
    await compiled;
    await this.#shared.setUp();
    await first.prepare();
    return this;
  }

  /** @param {URL} place @param {(p: import("./tamago").Progress) => void} onProgress */
  async #fetchWeights(place, onProgress) {
    const { weights, shards } = this.#shared.bundle;
    /** @type {Map<string, number[]>} */
    const wanted = new Map();
    for (const [buffer, name] of Object.entries(weights)) wanted.set(name, [...(wanted.get(name) ?? []), Number(buffer)]);
    const missing = new Set(wanted.keys());
    const total = shards.reduce((sum, shard) => sum + shard.bytes, 0);
    let loaded = 0;
    for (const shard of shards) {
      const bytes = await fetchShard(new URL(shard.file, place), shard, (more) => {
        loaded += more;
        onProgress({ stage: "download", done: loaded, total });
      });
      const tensor = tensorsOf(bytes, shard.file);
      for (const [key, [name, offset]] of Object.entries(shard.tensors)) {
        for (const buffer of wanted.get(name) ?? []) this.#shared.write(this.#shared.buffers[buffer], tensor(key), offset);
        missing.delete(name);
      }
    }
    if (missing.size) throw new Error(`No file has the weights ${[...missing].join(", ")}.`);
  }

  /** The model at one of its sizes, ready to run. @param {Record<string, number>} size */
  async at(size) {
    this.#shared.check();
    const wanted = Object.entries(size ?? {});
    const program = this.#programs.find((p) => wanted.length === Object.keys(p.size).length && wanted.every(([name, n]) => p.size[name] === n));
    if (!program) throw new RangeError(`${this.name} has no size ${sizeText(size ?? {})}; it has ${this.#sizesText(this.#programs)}.`);
    await this.#shared.inTurn(() => program.prepare());
    return program;
  }

  /** @param {Record<string, any>} inputs @param {{outputs?: string[]}} [options] */
  async run(inputs, options) {
    return this.#fitting(inputs ?? {}).run(inputs, options);
  }

  /** The size that inputs are for, by their lengths. @param {Record<string, any>} inputs */
  #fitting(inputs) {
    const [first, ...others] = this.#programs;
    if (!others.length) return first;
    this.#shared.check();
    first.checkInputs(inputs);
    const fitting = this.#programs.filter((program) => program.fits(inputs));
    if (fitting.length === 1) return fitting[0];
    const lengths = Object.entries(inputs).map(([name, { length }]) => `input ${JSON.stringify(name)} of ${length} elements`).join(", ");
    if (fitting.length) throw new RangeError(`${lengths || "nothing"} fits ${this.#sizesText(fitting)}: run what at({…}) gives for one of them.`);
    throw new RangeError(`${this.name} has no size for ${lengths}; it has ${this.#sizesText(this.#programs)}.`);
  }

  /** @param {Program[]} programs */
  #sizesText(programs) {
    const states = new Set(Object.values(this.state));
    const shapes = (/** @type {Program} */ { inputs }) => inputs.filter(({ name }) => !states.has(name)).map(({ name, shape }) => `${name} [${shape}]`);
    return programs.map((program) => `${sizeText(program.size)} (${shapes(program).join(", ")})`).join(" and ");
  }

  profile() {
    return this.#programs[0].profile();
  }

  /** @param {{seconds?: number, onProgress?: (p: {done: number, total: number, label: string}) => void}} [options] */
  tune(options) {
    return this.#programs[0].tune(options);
  }

  /** State back to zeros: that of runs to come. */
  reset() {
    this.#shared.check();
    for (const program of this.#programs) program.reset();
  }

  /** Give the device's memory back. */
  dispose() {
    for (const program of this.#programs) program.dispose();
    this.#shared.dispose();
  }
}

/** A model at one size. */
class Program {
  #shared;
  #plan;
  #device;
  #dispatches;
  #usable;
  #refusal;
  /** @type {GPUBuffer[]} */ #buffers = [];
  /** @type {number[]} */ #chosen;
  /** @type {Bound[]} */ #ready = [];
  /** @type {Map<string, {buffer: number, data: any}>} */ #last = new Map();
  /** @type {{source: number, target: number, bytes: number}[]} */ #moves;
  /** Choices to take untuned. @type {number[]} */ #first;
  /** @type {Promise<void> | null} */ #compiled = null;

  /** @param {Shared} shared @param {Plan} plan @param {Needs} needs */
  constructor(shared, plan, { choices, refusal }) {
    this.#shared = shared;
    this.#plan = plan;
    this.#device = shared.device;
    this.#usable = choices;
    this.#refusal = refusal;
    this.#dispatches = dispatchesOf(plan.steps);
    this.#first = choices.map((usable, number) => this.#firstOf(usable, number));
    this.#chosen = [...this.#first];
    this.size = Object.freeze({ ...plan.size });
    this.inputs = plan.inputs.map(visible);
    this.outputs = plan.outputs.map(visible);
    this.state = { ...plan.state };
    this.dispatches = this.#dispatches.length;
    this.labels = Object.freeze(this.#dispatches.map((d) => d.label));
    this.#moves = Object.entries(plan.state).flatMap(([output, input]) => {
      const from = this.#find(plan.outputs, output);
      const to = this.#find(plan.inputs, input);
      return from.buffer === to.buffer ? [] : [{ source: from.buffer, target: to.buffer, bytes: bytesOf(from) }];
    });
  }

  /** Kernels of the setup and of this size, once. @param {(done: number, total: number) => void} [onProgress] */
  compile(onProgress = () => {}) {
    this.#compiled ??= this.#shared.guarded(async () => {
      if (this.#shared.records) await this.#recall();
      const chosen = this.#dispatches.map((d, i) => d.choices[this.#chosen[i]].kernel);
      const kernels = [...new Set([...dispatchesOf(this.#shared.bundle.setup).map((d) => d.choices[0].kernel), ...chosen])];
      let done = 0;
      await Promise.all(kernels.map((k) => this.#shared.pipeline(k).then(() => onProgress(++done, kernels.length))));
    }, "compile the kernels");
    this.#compiled.catch(() => (this.#compiled = null)); // tried again when it is needed again
    return this.#compiled;
  }

  /** Once, when this size is first needed; the model's shared buffers are there. */
  async prepare() {
    if (this.#buffers.length && this.#ready.length === this.#dispatches.length) return;
    if (this.#refusal) throw new Error(this.#refusal);
    await this.compile();
    const { buffers, bundle } = this.#shared;
    if (!this.#buffers.length) this.#buffers = [...buffers, ...(await this.#shared.allocate(this.#plan.buffers.slice(bundle.shared)))];
    await this.#bind();
  }

  /**
   * Run once.
   * @param {Record<string, any>} inputs
   * @param {{outputs?: string[]}} [options]
   * @returns {Promise<Record<string, Numbers>>}
   */
  async run(inputs, { outputs } = {}) {
    this.#shared.check();
    const data = this.#gather(inputs ?? {});
    const states = this.#plan.state;
    const wanted = outputs ? outputs.map((name) => this.#find(this.#plan.outputs, name)) : this.#plan.outputs.filter((o) => !Object.hasOwn(states, o.name));
    const { reading } = await this.#shared.inTurn(async () => {
      this.#shared.check();
      await this.prepare();
      return { reading: this.#shared.guarded(() => this.#execute(data, wanted), "run the model") }; // others need not wait for it
    });
    return reading;
  }

  /** @param {Map<string, {buffer: number, data: any}>} data @param {Interface[]} wanted */
  #execute(data, wanted) {
    const device = this.#device;
    for (const { buffer, data: stored } of data.values()) if (stored.length) device.queue.writeBuffer(this.#buffers[buffer], 0, stored);
    for (const [name, one] of data) this.#last.set(name, one);
    this.#shared.submit(this.#plan.steps, this.#buffers, this.#ready);
    const encoder = device.createCommandEncoder();
    const staged = wanted.filter((one) => lengthOf(one)).map((one) => ({ one, staging: this.#shared.staging(bytesOf(one)) }));
    for (const { one, staging } of staged) encoder.copyBufferToBuffer(this.#buffers[one.buffer], 0, staging, 0, bytesOf(one));
    const scratch = this.#advance(encoder);
    device.queue.submit([encoder.finish()]);
    for (const buffer of scratch) buffer.destroy();
    const reading = staged.map(async ({ one, staging }) => [one.name, fromStored(one, await this.#shared.read(staging))]);
    const empty = wanted.filter((one) => !lengthOf(one)).map((one) => [one.name, fromStored(one, new ArrayBuffer(0))]);
    return Promise.all(reading).then((read) => Object.fromEntries([...read, ...empty]));
  }

  /** The outputs that are state become the next run's inputs. @param {GPUCommandEncoder} encoder */
  #advance(encoder) {
    const targets = new Set(this.#moves.map((move) => move.target));
    const clash = this.#moves.some((move) => targets.has(move.source)); // as where two states change places
    /** @type {GPUBuffer[]} */
    const scratch = clash ? this.#moves.map((m) => this.#device.createBuffer({ size: m.bytes, usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST })) : [];
    scratch.forEach((buffer, i) => encoder.copyBufferToBuffer(this.#buffers[this.#moves[i].source], 0, buffer, 0, this.#moves[i].bytes));
    this.#moves.forEach((m, i) => encoder.copyBufferToBuffer(scratch[i] ?? this.#buffers[m.source], 0, this.#buffers[m.target], 0, m.bytes));
    return scratch;
  }

  reset() {
    this.#shared.inTurn(async () => {
      const encoder = this.#device.createCommandEncoder();
      for (const buffer of this.#buffers.length ? this.#stateBuffers() : []) encoder.clearBuffer(this.#buffers[buffer]);
      this.#device.queue.submit([encoder.finish()]);
    }).catch(() => {}); // a device that is lost says so in the next run
  }

  dispose() {
    for (const buffer of this.#buffers) buffer.destroy();
  }

  /** @param {Interface[]} all @param {string} name */
  #find(all, name) {
    const one = all.find((o) => o.name === name);
    if (!one) throw new Error(`${this.#shared.bundle.name} has no ${all === this.#plan.inputs ? "input" : "output"} ${JSON.stringify(name)}; it has ${all.map((o) => o.name).join(", ")}.`);
    return one;
  }

  /** @param {Record<string, any>} inputs */
  #given(inputs) {
    return this.#plan.inputs.filter((one) => Object.hasOwn(inputs, one.name));
  }

  /** Refuse what is wrong with inputs at any size. @param {Record<string, any>} inputs */
  checkInputs(inputs) {
    const kept = new Set(Object.values(this.#plan.state));
    for (const name of Object.keys(inputs)) this.#find(this.#plan.inputs, name);
    const missing = this.#plan.inputs.filter((one) => !kept.has(one.name) && !Object.hasOwn(inputs, one.name));
    if (missing.length) throw new Error(`${this.#shared.bundle.name} also needs ${missing.map((one) => `input ${JSON.stringify(one.name)}`).join(", ")}.`);
    for (const one of this.#given(inputs)) checkKind(one, inputs[one.name]);
  }

  /** Whether inputs have as many elements as this size takes. @param {Record<string, any>} inputs */
  fits(inputs) {
    return this.#given(inputs).every((one) => inputs[one.name].length === lengthOf(one));
  }

  /** @param {Record<string, any>} inputs */
  #gather(inputs) {
    this.checkInputs(inputs);
    return new Map(this.#given(inputs).map((one) => [one.name, { buffer: one.buffer, data: toStored(one, inputs[one.name]) }]));
  }

  // -------------------------------------------------------------- kernels

  async #bind() {
    this.#ready = await this.#shared.scoped(() => Promise.all(this.#dispatches.map((_, i) => this.#bound(i, this.#chosen[i]))), "bind the buffers");
  }

  /** @param {number} number of a dispatch @param {number} choice */
  #bound(number, choice) {
    return this.#shared.bound(this.#buffers, this.#dispatches[number], this.#dispatches[number].choices[choice]);
  }

  // -------------------------------------------------------------- measuring

  /** Milliseconds of every dispatch, on the last run's inputs. */
  profile() {
    return this.#exclusive(async () => {
      /** @type {Map<string, number>} */
      const known = new Map();
      const rows = /** @type {import("./tamago").Row[]} */ ([]);
      await this.#walk(async (number) => {
        const dispatch = this.#dispatches[number];
        const { kernel, workgroups } = dispatch.choices[this.#chosen[number]];
        const key = JSON.stringify([kernel, workgroups]);
        if (!known.has(key)) known.set(key, await this.#time(this.#ready[number]));
        rows.push({ label: dispatch.label, kernel, workgroups: [...workgroups], ms: known.get(key) ?? 0, choice: this.#chosen[number], choices: dispatch.choices.length });
      });
      return rows;
    });
  }

  /**
   * Measure the alternatives of every dispatch here, keep the fastest that compute the same, and remember them.
   * @param {{seconds?: number, onProgress?: (p: {done: number, total: number, label: string}) => void}} [options]
   */
  tune({ seconds = 30, onProgress = () => {} } = {}) {
    return this.#exclusive(() => this.#tune(seconds * 1000, onProgress));
  }

  /** @param {number} budget @param {(p: {done: number, total: number, label: string}) => void} onProgress */
  async #tune(budget, onProgress) {
    const start = performance.now();
    const until = start + 0.8 * budget; // the rest is for whole runs
    const before = [...this.#chosen];
    /** @type {Map<string, number[]>} dispatches that face the same choice */
    const alike = new Map();
    this.#dispatches.forEach((d, i) => {
      if (this.#usable[i].filter(Boolean).length < 2) return;
      const key = JSON.stringify([d.choices, d.buffers.map((b) => this.#plan.buffers[b])]);
      alike.set(key, [...(alike.get(key) ?? []), i]);
    });
    const groups = new Map([...alike.values()].map((members) => [members[0], members]));
    const report = { tried: 0, rejected: /** @type {any[]} */ ([]), changed: 0, unmeasured: 0, before: 0, after: 0, seconds: 0, stored: false };
    let done = 0;
    this.#chosen = [...this.#first];
    await this.#bind(); // what is right is what the default computes
    await this.#walk(async (number) => {
      const members = groups.get(number);
      if (!members) return;
      onProgress({ done: done++, total: groups.size, label: this.#dispatches[number].label });
      // What is left is for this group and those after it.
      const share = performance.now() + Math.max(0, until - performance.now()) / (groups.size - done + 1);
      const best = await this.#choose(number, share, report);
      for (const member of members) this.#chosen[member] = best;
    }, () => performance.now() > until);
    report.unmeasured = groups.size - done;
    const tuned = [...this.#chosen];
    await this.#compareWholes(tuned, before, start + budget, report);
    report.changed = this.#chosen.filter((choice, i) => choice !== this.#first[i]).length;
    report.stored = await this.#remember(report);
    report.seconds = (performance.now() - start) / 1000;
    onProgress({ done: groups.size, total: groups.size, label: "" });
    return report;
  }

  /**
   * The choice to take untuned: a processor that plays a graphics adapter compiles and runs slowly what waits at
   * barriers, so it takes the first that does without. @param {boolean[]} usable @param {number} number
   */
  #firstOf(usable, number) {
    const waits = (/** @type {Choice} */ choice) => this.#shared.bundle.kernels[choice.kernel].source.includes("workgroupBarrier");
    const free = this.#dispatches[number].choices.findIndex((choice, i) => usable[i] && !waits(choice));
    return this.#shared.adapter.software && free >= 0 ? free : usable.indexOf(true);
  }

  /** The whole model decides: a choice that wins alone may lose among the others. @param {number[]} tuned @param {number[]} before @param {number} until @param {any} report */
  async #compareWholes(tuned, before, until, report) {
    const plain = [...this.#first];
    const ways = [plain, tuned, before].filter((way, i, all) => all.findIndex((other) => `${other}` === `${way}`) === i);
    const samples = ways.map(() => /** @type {number[]} */ ([]));
    const once = async (/** @type {number[]} */ way) => {
      this.#chosen = way;
      await this.#bind();
      this.#feed();
      await this.#device.queue.onSubmittedWorkDone();
      const start = performance.now();
      this.#shared.submit(this.#plan.steps, this.#buffers, this.#ready);
      await this.#device.queue.onSubmittedWorkDone();
      return performance.now() - start;
    };
    const first = await once(tuned);
    const rounds = Math.min(6, Math.floor((until - performance.now()) / (first * ways.length)));
    if (ways.length < 2 || rounds < 2) return void (report.after = first); // each choice was measured alone
    for (let round = 0; round < rounds; round++)
      for (const [i, way] of ways.entries()) {
        const ms = await once(way);
        if (round) samples[i].push(ms); // the first warms up
      }
    const medians = samples.map((s) => s.sort((a, b) => a - b)[s.length >> 1]);
    const fastest = medians.indexOf(Math.min(...medians));
    const kept = ways.indexOf(tuned); // where the plain way was the same, -1: there is nothing to decide
    const best = kept >= 0 && medians[fastest] > GAIN * medians[kept] ? kept : fastest;
    this.#chosen = ways[best];
    await this.#bind();
    [report.before, report.after] = [medians[0], medians[best]];
  }

  /** @param {number} number @param {number} until @param {{tried: number, rejected: any[]}} report */
  async #choose(number, until, report) {
    const dispatch = this.#dispatches[number];
    const usable = this.#usable[number].flatMap((ok, i) => (ok ? [i] : []));
    const outputs = this.#writes(number);
    const before = await Promise.all(outputs.map(({ buffer }) => this.#contents(buffer)));
    const restore = () => outputs.forEach(({ buffer }, i) => this.#shared.write(this.#buffers[buffer], before[i]));
    const result = async (/** @type {any} */ bound) => {
      restore();
      this.#repeat(bound, 1);
      return Promise.all(outputs.map(({ buffer }) => this.#contents(buffer)));
    };
    const [first, ...others] = usable;
    const right = await result(this.#ready[number]);
    const running = [{ choice: first, bound: this.#ready[number], best: await this.#time(this.#ready[number]) }];
    for (const choice of others) {
      if (performance.now() > until) break;
      report.tried++;
      try {
        const bound = await this.#shared.scoped(() => this.#bound(number, choice), "bind a choice");
        const found = await this.#shared.scoped(() => result(bound), "run a choice");
        const worst = Math.max(...outputs.map(({ type }, i) => difference(right[i], found[i], before[i], type) / (CLOSE[/** @type {"f32"} */ (type)] ?? 1)));
        if (!(worst <= 1)) throw new Error(`its result differs by ${worst.toPrecision(3)} times what is allowed`);
        running.push({ choice, bound, best: await this.#time(bound) });
      } catch (error) {
        this.#shared.check();
        report.rejected.push({ label: dispatch.label, choice, reason: message(error) });
      }
    }
    for (let round = 0; round < 2; round++) {
      const fastest = Math.min(...running.map((r) => r.best));
      for (const one of running.filter((r) => r.best < 1.3 * fastest))
        if (performance.now() < until) one.best = Math.min(one.best, await this.#time(one.bound));
    }
    restore();
    this.#repeat(this.#ready[number], 1); // the steps that follow read what the default computed
    const winner = running.reduce((a, b) => (b.best < a.best ? b : a));
    return winner.best < GAIN * running[0].best ? winner.choice : first;
  }

  /** Buffers that any of a dispatch's kernels writes, and their element types. @param {number} number */
  #writes(number) {
    const { buffers, choices } = this.#dispatches[number];
    const { source } = this.#shared.bundle.kernels[choices[this.#chosen[number]].kernel];
    return buffers.flatMap((buffer, i) => {
      if (!choices.some((c) => this.#shared.bundle.kernels[c.kernel].written[i])) return [];
      const declared = new RegExp(`@binding\\(\\s*${i}u?\\s*\\)[^;]*`).exec(source)?.[0] ?? "";
      const type = /\bf16\b|\bvec[234]h\b/.test(declared) ? "f16" : /\b[iu]32\b|\bvec[234][iu]\b/.test(declared) ? "u32" : "f32";
      return [{ buffer, type }];
    });
  }

  /**
   * Take the steps one by one from poisoned buffers; `visit` comes when a dispatch's operands are there.
   * @param {(number: number) => Promise<void>} visit @param {() => boolean} [stop]
   */
  async #walk(visit, stop = () => false) {
    this.#poison();
    this.#feed();
    let number = 0;
    for (const step of this.#plan.steps) {
      if (stop()) return;
      if (step.dispatch) await visit(number);
      this.#shared.submit([step], this.#buffers, this.#ready, number);
      if (step.dispatch) number++;
    }
  }

  #stateBuffers() {
    return new Set(Object.values(this.#plan.state).map((name) => this.#find(this.#plan.inputs, name).buffer));
  }

  /** What no kernel has written must not look like a result. */
  #poison() {
    const prepared = this.#shared.bundle.setup.flatMap(({ dispatch, copy }) => dispatch?.buffers ?? (copy ? [copy.source, copy.target] : []));
    const kept = new Set([...Object.keys(this.#shared.bundle.weights).map(Number), ...prepared, ...this.#stateBuffers()]);
    this.#plan.buffers.forEach((bytes, buffer) => {
      if (!kept.has(buffer) && bytes) this.#shared.write(this.#buffers[buffer], new Uint8Array(bytes).fill(POISON));
    });
  }

  /** Inputs as in the last run. */
  #feed() {
    const kept = this.#stateBuffers();
    for (const one of this.#plan.inputs) {
      if (kept.has(one.buffer) || !lengthOf(one)) continue;
      const data = this.#last.get(one.name)?.data ?? madeUp(one);
      this.#device.queue.writeBuffer(this.#buffers[one.buffer], 0, data);
    }
  }

  /** @param {number} buffer */
  async #contents(buffer) {
    const bytes = this.#buffers[buffer].size;
    const staging = this.#shared.staging(bytes);
    const encoder = this.#device.createCommandEncoder();
    encoder.copyBufferToBuffer(this.#buffers[buffer], 0, staging, 0, bytes);
    this.#device.queue.submit([encoder.finish()]);
    return new Uint8Array(await this.#shared.read(staging));
  }

  /** @param {any} bound @param {number} times @param {GPUComputePassTimestampWrites} [timestampWrites] */
  #repeat(bound, times, timestampWrites) {
    const encoder = this.#device.createCommandEncoder();
    const pass = encoder.beginComputePass(timestampWrites && { timestampWrites });
    for (let i = 0; i < times; i++) dispatch(pass, bound);
    pass.end();
    this.#device.queue.submit([encoder.finish()]);
  }

  /** Milliseconds of one dispatch, from so many in a row that the clock's steps do not matter. @param {any} bound */
  async #time(bound) {
    for (let times = 1; ; ) {
      const ms = await this.#elapsed(bound, times);
      if (ms >= SAMPLE_MS || times >= 1024) return ms / times;
      times = Math.min(1024, ms > 0 ? Math.max(2 * times, Math.ceil((1.2 * SAMPLE_MS * times) / ms)) : 8 * times);
    }
  }

  /** @param {any} bound @param {number} times */
  async #elapsed(bound, times) {
    const device = this.#device;
    if (device.features.has("timestamp-query")) {
      const querySet = device.createQuerySet({ type: "timestamp", count: 2 });
      const resolved = device.createBuffer({ size: 16, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
      const staging = this.#shared.staging(16);
      this.#repeat(bound, times, { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 });
      const encoder = device.createCommandEncoder();
      encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16);
      device.queue.submit([encoder.finish()]);
      const [begin, end] = new BigInt64Array(await this.#shared.read(staging));
      querySet.destroy();
      resolved.destroy();
      return Math.max(0, Number(end - begin) / 1e6);
    }
    await device.queue.onSubmittedWorkDone();
    const start = performance.now();
    this.#repeat(bound, times);
    await device.queue.onSubmittedWorkDone();
    return performance.now() - start;
  }

  /** Runs wait meanwhile, and what they left as state is there again afterwards. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  async #exclusive(work) {
    this.#shared.check();
    return this.#shared.inTurn(() => this.#shared.guarded(async () => {
      const states = [...this.#stateBuffers()];
      const saved = await Promise.all(states.map((buffer) => this.#contents(buffer)));
      try {
        return await work();
      } finally {
        if (!this.#shared.trouble) states.forEach((buffer, i) => this.#shared.write(this.#buffers[buffer], saved[i]));
      }
    }, "measure the kernels"));
  }

  // -------------------------------------------------------------- records

  get #key() {
    const { vendor, architecture, device, description } = this.#shared.adapter;
    return JSON.stringify([vendor, architecture, device, description, this.#plan.hash]);
  }

  async #recall() {
    const record = await stored("readonly", (store) => store.get(this.#key)).catch(() => null);
    const fits = Array.isArray(record?.chosen) && record.chosen.length === this.dispatches && record.chosen.every((/** @type {any} */ c, /** @type {number} */ i) => this.#usable[i][c] === true);
    if (fits) this.#chosen = record.chosen;
    this.tuned = fits;
  }

  /** @param {any} report */
  async #remember(report) {
    const record = { chosen: this.#chosen, before: report.before, after: report.after, date: new Date().toISOString() };
    this.tuned = true;
    return stored("readwrite", (store) => store.put(record, this.#key)).then(() => true, () => false);
  }

  /** Whether measurements made here earlier, or just now, decided about the kernels. */
  tuned = false;
}

/** @param {Readonly<Record<string, number>>} size */
const sizeText = (size) => Object.entries(size).map(([name, n]) => `${name}=${n}`).join(", ");

/** @param {Interface} one */
const visible = ({ name, shape, dtype }) => Object.freeze({ name, shape: Object.freeze([...shape]), dtype });

/** @param {GPUComputePassEncoder} pass @param {any} ready */
function dispatch(pass, { pipeline, group, workgroups }) {
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(workgroups[0], workgroups[1], workgroups[2]);
}

/**
 * How far apart two results are, relative to the largest magnitude among what was written.
 * @param {Uint8Array} right @param {Uint8Array} found @param {Uint8Array} before @param {string} type
 */
function difference(right, found, before, type) {
  const [a, b, old] = [right, found, before].map((bytes) => {
    if (type === "f16") return Float32Array.from(new Uint16Array(bytes.buffer), fromHalf);
    return type === "f32" ? new Float32Array(bytes.buffer) : new Int32Array(bytes.buffer);
  });
  let [scale, apart] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    if (Object.is(a[i], b[i]) || a[i] === b[i]) {
      if (Number.isFinite(a[i]) && a[i] !== old[i]) scale = Math.max(scale, Math.abs(a[i]));
      continue;
    }
    if (type === "u32" || !Number.isFinite(a[i]) || !Number.isFinite(b[i])) return Infinity;
    scale = Math.max(scale, Math.abs(a[i]));
    apart = Math.max(apart, Math.abs(a[i] - b[i]));
  }
  return apart === 0 ? 0 : apart / scale;
}

/** One request to the page's own database. @param {IDBTransactionMode} mode @param {(store: IDBObjectStore) => IDBRequest} ask @returns {Promise<any>} */
function stored(mode, ask) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("tamago", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("records");
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const transaction = opening.result.transaction("records", mode);
      const request = ask(transaction.objectStore("records"));
      transaction.oncomplete = () => (opening.result.close(), resolve(request.result));
      transaction.onerror = transaction.onabort = () => (opening.result.close(), reject(transaction.error));
    };
  });
}
