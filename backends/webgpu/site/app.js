// @ts-check
/** The page: a model's inputs, outputs and times, and in front of them the example that model.json names. */

import { load } from "./tamago.js";

/** @typedef {import("./tamago").Model} Model */
/** @typedef {import("./tamago").Program} Program */

const RUNS = 100; // of a timing, or
const TIMING_MS = 3000;
const BYTE = /^<0x([0-9A-F]{2})>$/;

/** @param {string} id @returns {any} */
const at = (id) => document.getElementById(id);

/** An element with text in it: what comes from a model's file is never markup. @param {string} tag @param {unknown} [text] */
function element(tag, text = "") {
  const made = document.createElement(tag);
  made.textContent = String(text);
  return made;
}

/** @param {unknown} error */
function problem(error) {
  at("problem").textContent = error instanceof Error ? error.message : String(error);
  at("problem").hidden = false;
  at("loading").hidden = true;
}

/** @param {number} ms */
const time = (ms) => (ms >= 100 ? `${Math.round(ms)} ms` : `${Number(ms.toPrecision(3))} ms`);

/** @param {number} bytes */
const size = (bytes) => (bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.ceil(bytes / 1e3)} kB`);

/** A handler that shows its errors and that nobody starts twice. @param {string} id @param {() => Promise<unknown>} work @param {string} [event] */
function button(id, work, event = "click") {
  at(id).addEventListener(event, async () => {
    const others = [...document.querySelectorAll("#model button, #model select")];
    at("problem").hidden = true;
    for (const one of others) /** @type {HTMLButtonElement} */ (one).disabled = true;
    try {
      await work();
    } catch (error) {
      problem(error);
      at("status").textContent = "";
    }
    for (const one of others) /** @type {HTMLButtonElement} */ (one).disabled = false;
  });
}

async function start() {
  const begin = performance.now();
  let bytes = 0;
  const model = await load("./model.json", {
    onProgress({ stage, done, total }) {
      if (stage === "download") bytes = total;
      at("stage").textContent = stage === "download" ? `Fetching weights: ${size(done)} of ${size(total)}` : `Compiling kernels: ${done} of ${total}`;
      at("progress").max = Math.max(1, total);
      at("progress").value = done;
    },
  });
  const { vendor, architecture, device, description, software } = model.adapter;
  const adapter = description || [vendor, architecture, device].filter(Boolean).join(" ") || "unnamed adapter";
  document.title = at("name").textContent = model.name;
  at("facts").textContent = [
    `${model.dispatches} dispatch${model.dispatches === 1 ? "" : "es"}`, ...(bytes ? [`${size(bytes)} of weights`] : []), adapter + (software ? " (software)" : ""),
    `loaded in ${time(performance.now() - begin)}`, ...(model.tuned ? ["tuned here"] : []),
  ].join(" · ");
  at("loading").hidden = true;
  const app = /** @type {any} */ (model.app);
  at("model").hidden = false;
  at("model").open = !app;
  at("model").classList.toggle("alone", !app);
  await showModel(model);
  if (app?.kind === "classifier") classifier(model, app);
  if (app?.kind === "completion") completion(model, app);
}

// ---------------------------------------------------------------- any model

/** @param {Program} program */
function showProgram({ inputs, outputs, state, labels }) {
  const states = new Set([...Object.keys(state), ...Object.values(state)]);
  const lines = [...inputs.map((one) => ({ kind: "in", ...one })), ...outputs.map((one) => ({ kind: "out", ...one }))];
  at("interfaces").replaceChildren(
    ...lines.map(({ kind, name, shape, dtype }) => {
      const line = element("li");
      line.append(element("span", kind), element("b", name), element("span", `${dtype}[${shape.join(", ")}]${states.has(name) ? " state" : ""}`));
      return line;
    }),
  );
  showRows(labels.map((label) => ({ label, kernel: 0, workgroups: [], ms: 0, choice: 0, choices: 0 })));
}

/** @param {Model} whole */
async function showModel(whole) {
  const names = whole.sizes.map((size) => Object.entries(size).map(([name, n]) => `${name} = ${n}`).join(", "));
  at("size").append(...names.map((name) => element("option", name)));
  at("sizes").hidden = names.length < 2;
  let [shown, model] = [0, await whole.at(whole.sizes[0])];
  showProgram(model);

  let first = 0;
  button("size", async () => {
    const wanted = at("size").selectedIndex;
    at("size").selectedIndex = shown; // until it is there
    at("status").textContent = "compiling…";
    model = await whole.at(whole.sizes[wanted]);
    at("size").selectedIndex = shown = wanted;
    first = 0;
    showProgram(model);
    figures([]);
    at("status").textContent = "";
  }, "change");
  const once = async () => {
    const inputs = randomInputs(model);
    const begin = performance.now();
    const outputs = await model.run(inputs);
    const ms = performance.now() - begin;
    first ||= ms;
    return { outputs, ms };
  };
  button("run", async () => {
    const { outputs, ms } = await once();
    at("status").textContent = `one run: ${time(ms)}`;
    figures(Object.entries(outputs).map(([name, values]) => [name, summary(values)]));
  });
  button("time", async () => {
    at("status").textContent = "timing…";
    await once();
    const samples = /** @type {number[]} */ ([]);
    for (const begin = performance.now(); samples.length < RUNS && performance.now() - begin < TIMING_MS; ) samples.push((await once()).ms);
    samples.sort((a, b) => a - b);
    const part = (/** @type {number} */ share) => time(samples[Math.floor(share * (samples.length - 1))]);
    at("status").textContent = "";
    figures([["first run", time(first)], ["median", `${part(0.5)} of ${samples.length} runs`], ["middle half", `${part(0.25)} to ${part(0.75)}`]]);
  });
  button("profile", async () => {
    at("status").textContent = "measuring every dispatch…";
    const rows = await model.profile();
    showRows(rows);
    at("status").textContent = "";
  });
  button("tune", async () => {
    const report = await model.tune({
      onProgress: ({ done, total, label }) => (at("status").textContent = `tuning ${Math.min(done + 1, total)} of ${total}: ${label}`),
    });
    at("status").textContent = report.tried ? "" : "this model has no alternatives to choose among";
    showRows(await model.profile());
    figures([
      ["whole run", report.before ? `${time(report.before)} → ${time(report.after)}` : time(report.after)],
      ["tried", `${report.tried} alternatives in ${report.seconds.toFixed(1)} s`],
      ["taken", `${report.changed} of ${model.dispatches} dispatches`],
      ...(report.unmeasured ? [["no time for", `${report.unmeasured} choices: tune again to go on`]] : []),
      ...report.rejected.map((r) => ["rejected", `${r.label}, choice ${r.choice}: ${r.reason}`]),
      ...(report.stored ? [] : [["not kept", "this browser gives the page no storage"]]),
    ]);
  });
}

/** @param {string[][]} rows */
function figures(rows) {
  at("figures").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

/** @param {import("./tamago").Row[]} rows those that were not measured have no choices */
function showRows(rows) {
  const all = rows.reduce((sum, { ms }) => sum + ms, 0);
  const most = rows.reduce((top, { ms }) => Math.max(top, ms), 1e-9);
  at("total").textContent = all ? `${rows.length}, ${time(all)} one by one` : `${rows.length}`;
  at("rows").replaceChildren(
    ...rows.map(({ label, kernel, workgroups, ms, choice, choices }, i) => {
      const line = element("tr");
      const work = element("td", label);
      work.style.setProperty("--share", `${(100 * ms) / most}%`);
      const which = choices > 1 ? `${kernel} (${choice + 1} of ${choices})` : choices ? kernel : "";
      line.append(element("td", i), work, element("td", workgroups.join("×")), element("td", which), element("td", choices ? ms.toPrecision(3) : ""));
      return line;
    }),
  );
}

/** @param {Program} model */
function randomInputs(model) {
  const kept = new Set(Object.values(model.state));
  return Object.fromEntries(
    model.inputs.filter(({ name }) => !kept.has(name)).map(({ name, shape, dtype }) => {
      const float = dtype.includes("float") || dtype === "double";
      const length = shape.reduce((product, n) => product * n, 1);
      return [name, Array.from({ length }, () => (float ? Math.random() * 2 - 1 : Math.round(Math.random())))];
    }),
  );
}

/** @param {import("./tamago").Array} values */
function summary(values) {
  const shown = [...values.slice(0, 6)].map((v) => (typeof v === "bigint" || Number.isInteger(v) ? `${v}` : Number(v).toPrecision(4)));
  return shown.join(", ") + (values.length > 6 ? `, … ${values.length} in all` : "");
}

/** @param {ArrayLike<number>} values */
function largest(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

// ---------------------------------------------------------------- pictures

/** @param {Model} model @param {any} app */
function classifier(model, app) {
  const [input] = model.inputs;
  const [, a, b, c] = input.shape;
  const [channels, height, width] = app.layout === "NCHW" ? [a, b, c] : [c, a, b];
  const canvas = /** @type {HTMLCanvasElement} */ (at("picture"));
  [canvas.width, canvas.height] = [width, height];
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.imageSmoothingQuality = "high";
  at("classifier").hidden = false;

  /** The middle of a picture, as large as it fits. @param {any} source @param {number} w @param {number} h */
  const see = async (source, w, h) => {
    const scale = Math.max(width / w, height / h);
    context.clearRect(0, 0, width, height);
    context.drawImage(source, (width - w * scale) / 2, (height - h * scale) / 2, w * scale, h * scale);
    const begin = performance.now();
    const values = pixels(context.getImageData(0, 0, width, height).data, channels, app);
    const name = model.outputs[0].name;
    const scores = (await model.run({ [input.name]: values }, { outputs: [name] }))[name];
    showClasses(shares(/** @type {Float32Array} */ (scores)), app.labels);
    at("seen").textContent = `${time(performance.now() - begin)} a picture. Nothing leaves this device.`;
  };
  /** @param {Blob | undefined} file */
  const open = async (file) => {
    if (!file) return;
    at("problem").hidden = true;
    try {
      stop();
      const picture = await createImageBitmap(file).catch(() => {
        throw new Error("This file is no picture that the browser can read.");
      });
      await see(picture, picture.width, picture.height);
    } catch (error) {
      problem(error);
    }
  };
  at("file").addEventListener("change", () => {
    open(at("file").files[0]);
    at("file").value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => open(event.clipboardData?.files[0]));
  document.addEventListener("dragover", (event) => (event.preventDefault(), at("classifier").classList.add("over")));
  document.addEventListener("dragleave", () => at("classifier").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    at("classifier").classList.remove("over");
    open(event.dataTransfer?.files[0]);
  });

  /** @type {MediaStream | null} */
  let stream = null;
  const stop = () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    at("camera").setAttribute("aria-pressed", "false");
  };
  at("camera").addEventListener("click", async () => {
    at("problem").hidden = true;
    if (stream) return stop();
    try {
      const opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      stream = opened;
      at("camera").setAttribute("aria-pressed", "true");
      const video = document.createElement("video");
      [video.srcObject, video.muted, video.playsInline] = [opened, true, true];
      await video.play();
      while (stream === opened) {
        await see(video, video.videoWidth, video.videoHeight);
        await new Promise(requestAnimationFrame);
      }
    } catch (error) {
      stop();
      problem(error);
    }
  });
}

/** What a model takes for a picture. @param {Uint8ClampedArray} data RGBA @param {number} channels @param {any} app */
function pixels(data, channels, { layout, mean, std }) {
  const count = data.length / 4;
  const values = new Float32Array(count * channels);
  const planes = layout === "NCHW";
  for (let i = 0; i < count; i++) {
    const grey = 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
    for (let c = 0; c < channels; c++)
      values[planes ? c * count + i : i * channels + c] = ((channels === 1 ? grey : data[4 * i + c]) / 255 - mean[c]) / std[c];
  }
  return values;
}

/** Probabilities, where a model gives scores. @param {Float32Array} scores */
function shares(scores) {
  const sum = scores.reduce((a, b) => a + b, 0);
  if (Math.abs(sum - 1) < 0.01 && scores.every((s) => s >= 0)) return scores;
  const top = scores[largest(scores)];
  const powers = scores.map((s) => Math.exp(s - top));
  const all = powers.reduce((a, b) => a + b, 0);
  return powers.map((p) => p / all);
}

/** @param {Float32Array} parts @param {string[] | null} labels */
function showClasses(parts, labels) {
  const best = Array.from(parts.keys()).sort((a, b) => parts[b] - parts[a]).slice(0, 5);
  at("classes").replaceChildren(
    ...best.map((i) => {
      const line = element("li");
      line.style.setProperty("--share", `${100 * parts[i]}%`);
      line.append(element("b", labels?.[i] ?? `class ${i}`), element("span", `${(100 * parts[i]).toFixed(1)} %`));
      return line;
    }),
  );
}

// ---------------------------------------------------------------- text

/** @param {Model} model @param {any} app */
function completion(model, app) {
  const { encode, decode, end } = tokenizer(app.vocabulary);
  at("completion").hidden = false;
  if (app.length) at("count").max = app.length;
  let going = false;

  const step = async (/** @type {number} */ token, /** @type {number} */ position, /** @type {string[]} */ outputs) => {
    const inputs = { [app.token]: [token], ...(app.position ? { [app.position]: [position] } : {}) };
    return (await model.run(inputs, { outputs }))[app.logits];
  };
  at("continue").addEventListener("click", async () => {
    if (going) return (going = false);
    going = true;
    at("problem").hidden = true;
    at("continue").textContent = "Stop";
    try {
      const prompt = at("prompt").value;
      const tokens = encode(prompt);
      if (!tokens.length) throw new Error("Write something for the model to continue.");
      const room = (app.length ?? Infinity) - tokens.length;
      if (room < 1) throw new Error(`The text has ${tokens.length} tokens; the model has room for ${app.length}.`);
      const bytes = /** @type {number[]} */ ([]);
      const written = element("span");
      at("text").replaceChildren(element("i", prompt), written);
      model.reset();
      for (const [position, token] of tokens.slice(0, -1).entries()) await step(token, position, []);
      let token = tokens[tokens.length - 1];
      let done = 0;
      const begin = performance.now();
      for (const wanted = Math.min(Number(at("count").value) || 1, room); going && done < wanted; ) {
        const logits = await step(token, tokens.length - 1 + done, [app.logits]);
        token = largest(/** @type {Float32Array} */ (logits));
        done++;
        if (token === end) break;
        bytes.push(...decode(token));
        written.textContent = new TextDecoder().decode(new Uint8Array(bytes));
        const seconds = (performance.now() - begin) / 1000;
        at("speed").textContent = `${done} tokens, ${(done / seconds).toPrecision(3)} a second`;
        if (done % 4 === 0) await new Promise((resolve) => setTimeout(resolve)); // the page draws meanwhile
      }
    } catch (error) {
      problem(error);
    }
    going = false;
    at("continue").textContent = "Continue";
  });
}

/** Bytes, or the longest known pieces of the text. @param {string[] | null} vocabulary */
function tokenizer(vocabulary) {
  const utf8 = new TextEncoder();
  if (!vocabulary) return { encode: (/** @type {string} */ text) => [...utf8.encode(text)], decode: (/** @type {number} */ token) => [token & 255], end: -1 };
  const numbers = new Map(vocabulary.map((piece, number) => [piece, number]));
  const longest = vocabulary.reduce((n, piece) => Math.max(n, piece.length), 0);
  const spaced = vocabulary.some((piece) => piece.startsWith("▁")); // SentencePiece's sign for a space
  const start = numbers.get("<s>") ?? numbers.get("<bos>");

  /** @param {string} text */
  const encode = (text) => {
    const rest = spaced ? `▁${text.replaceAll(" ", "▁")}` : text;
    const tokens = start === undefined ? [] : [start];
    for (let i = 0; i < rest.length; ) {
      let length = Math.min(longest, rest.length - i);
      while (length > 0 && !numbers.has(rest.slice(i, i + length))) length--;
      if (length > 0) tokens.push(/** @type {number} */ (numbers.get(rest.slice(i, i + length))));
      else tokens.push(...bytesOf(String.fromCodePoint(/** @type {number} */ (rest.codePointAt(i)))));
      i += length || String.fromCodePoint(/** @type {number} */ (rest.codePointAt(i))).length;
    }
    return tokens;
  };
  /** @param {string} character */
  const bytesOf = (character) =>
    [...utf8.encode(character)].map((byte) => {
      const number = numbers.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`) ?? numbers.get("<unk>");
      if (number === undefined) throw new Error(`The model's vocabulary has nothing for ${JSON.stringify(character)}.`);
      return number;
    });
  /** @param {number} token */
  const decode = (token) => {
    const byte = BYTE.exec(vocabulary[token] ?? "");
    return byte ? [parseInt(byte[1], 16)] : [...utf8.encode((vocabulary[token] ?? "").replaceAll("▁", " "))];
  };
  return { encode, decode, end: numbers.get("</s>") ?? numbers.get("<eos>") ?? -1 };
}

start().catch(problem);
