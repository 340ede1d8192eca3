/** Numbers as `run` takes them; a plain array may hold booleans and bigints where the input takes them. */
export type Array =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;
export type Values = Array | readonly (number | boolean | bigint)[];

/** An input or output of the model. */
export interface Interface {
  readonly name: string;
  readonly shape: readonly number[];
  /** ONNX's lower-case name: float32, int64, bool, … */
  readonly dtype: string;
}

/** Bytes while the weights are fetched, kernels while they are compiled. */
export interface Progress {
  stage: "download" | "compile";
  done: number;
  total: number;
}

/** The time of one dispatch. */
export interface Row {
  label: string;
  kernel: number;
  workgroups: number[];
  ms: number;
  choice: number;
  choices: number;
}

/** What tuning found. `before` and `after`: milliseconds of whole runs; 0 before where there was nothing to compare. */
export interface Tuning {
  tried: number;
  /** Candidates that computed something else, or did not run. */
  rejected: { label: string; choice: number; reason: string }[];
  /** Dispatches that now have another kernel than the first. */
  changed: number;
  /** Choices for which there was no time. */
  unmeasured: number;
  before: number;
  after: number;
  seconds: number;
  /** Whether the next `load` will find this. */
  stored: boolean;
}

/** Numbers by the names of dimensions; `{}` where a model has one size. */
export type Size = Readonly<Record<string, number>>;

/** A model at one size. */
export interface Program {
  readonly inputs: readonly Interface[];
  readonly outputs: readonly Interface[];
  /** Input by the output that takes its place in the next run: these stay on the device. */
  readonly state: Readonly<Record<string, string>>;
  /** Kernels started by one run. */
  readonly dispatches: number;
  /** The work of each of them. */
  readonly labels: readonly string[];
  /** Whether measurements made here, now or earlier, decided which kernels do it. */
  readonly tuned: boolean;
  /**
   * Run once. Inputs that are state need not be given: they are zeros at first and then what the last run left. Outputs
   * come in the model's type (int64: BigInt64Array, bool: Uint8Array, float16: Float32Array); state only when named.
   */
  run(inputs: Record<string, Values>, options?: { outputs?: string[] }): Promise<Record<string, Array>>;
  /** Milliseconds of every dispatch, on the inputs of the last run. */
  profile(): Promise<Row[]>;
  /** Measure alternative kernels here, keep the fastest of those that compute the same, remember them for this adapter. */
  tune(options?: { seconds?: number; onProgress?: (p: { done: number; total: number; label: string }) => void }): Promise<Tuning>;
}

/**
 * A model on the device. At several sizes, `run` takes the one that the lengths of its inputs are of and compiles it when
 * it is first needed; all else that a program has is of the first size, which `load` compiles. Weights are there once, and
 * so is state whose shape is the same at all sizes.
 */
export interface Model extends Program {
  readonly name: string;
  readonly app: unknown;
  readonly adapter: Readonly<{ vendor: string; architecture: string; device: string; description: string; software: boolean }>;
  readonly sizes: readonly Size[];
  /** One of `sizes`, compiled: to have it ready, to profile and tune it, and where lengths fit several sizes. */
  at(size: Size): Promise<Program>;
  /** State back to zeros. */
  reset(): void;
  /** Give the device's memory back; the model cannot run after this. */
  dispose(): void;
}

/** Whether this page can run models at all; the error of `load` says why not. */
export function supported(): Promise<boolean>;

/**
 * Fetch a model that `tamago web` wrote, compile its kernels and put its weights on the device.
 *
 * `device`: one that the caller has, which must have the features and limits that the model needs; it stays the
 * caller's. `records`: false ignores what was measured here earlier.
 */
export function load(
  url: string | URL,
  options?: { onProgress?: (progress: Progress) => void; device?: GPUDevice; records?: boolean },
): Promise<Model>;
