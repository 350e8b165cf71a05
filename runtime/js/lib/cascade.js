// Answer inputs with a local model, and forward some of them to a remote one.

import { columnsFor } from "./class-names.js";
import { checked, documentIn } from "./document.js";
import {
  ArgumentError,
  EdgecascadeError,
  InputError,
  InvalidReply,
  ModelFileError,
  RemoteUnreachable,
} from "./errors.js";
import { fits, ModelInputs, rows } from "./inputs.js";
import { calibrated, merge } from "./merge.js";
import { OpenInference } from "./open-inference.js";

const LONGEST = 86400; // seconds
const REQUEST = 32; // inputs of one request
const SILENT = 4; // log severity: errors are thrown, and overridable initializers are meant to be there
const NONE = new Float32Array(0); // the probabilities of a general task
const TOO_LATE = { reason: "deadline", detail: "the remote did not answer in time" };
const NO_REMOTE = { reason: "offline", detail: "no remote was given" };
const NOT_ALLOWED = { reason: "egress", detail: "the application does not let this input leave the device" };

export class Cascade {
  #inputs;
  #session;
  #remote;
  #deadline;
  #egress;
  #names; // of the outputs to run for
  #outputs; // of the answers: [name of the body, name in the file]
  #together; // whether several inputs run at once
  #running; // the run under way
  #waiting = 0; // it, and the runs behind it
  #closing; // once `close` was called

  /** The document of the file, as JSON has it. */
  document;

  constructor(session, document, Tensor, { remote, deadline, threshold, outputs, egress }) {
    this.document = document;
    this.threshold = threshold ?? document.policy.threshold;
    const classifies = document.format === 1;
    const further = outputs ?? (classifies ? [] : document.task.outputs);
    const moved = (name) => session.outputNames.includes(`body/${name}`);
    this.#outputs = further.map((name) => [name.replace(/^body\//, ""), moved(name) ? `body/${name}` : name]);
    const unknown = this.#outputs.find(([, there]) => !session.outputNames.includes(there));
    if (outputs && unknown) {
      const known = session.outputNames.map((name) => name.replace(/^body\//, ""));
      throw new ArgumentError(`outputs: expected names among ${known.join(", ")}, got ${unknown[0]}`);
    }
    // Without a map, the confidence is the probability of the label: every output that is not read saves microseconds.
    const decided = classifies ? ["label", "probabilities", "advantage"] : ["confidence", "advantage"];
    const mapped = classifies && document.calibration?.knots ? ["confidence"] : [];
    this.#names = [...decided, ...mapped, ...this.#outputs.map(([, there]) => there)];
    const missing = this.#names.filter((name) => !session.outputNames.includes(name));
    if (missing.length)
      throw new ModelFileError(`file: expected the outputs of a cascade file, got none named ${missing}`);
    // In the order of the file, so that the last one is missing where a binding gives outputs the names of others.
    this.#names = session.outputNames.filter((name) => this.#names.includes(name));
    this.#inputs = new ModelInputs(session.inputMetadata, Tensor);
    const sides = [...session.inputMetadata, ...session.outputMetadata.filter((one) => this.#names.includes(one.name))];
    this.#together = this.#inputs.batch !== 1 && (classifies || new Set(sides.map((one) => one.shape[0])).size === 1);
    this.#session = session;
    this.#remote = remote;
    this.#deadline = deadline;
    this.#egress = egress;
  }

  static async load(file, { document, remote, deadline = 1, threshold, outputs, egress, ort, session } = {}) {
    if (!(deadline > 0 && deadline <= LONGEST)) {
      throw new ArgumentError(`deadline: expected seconds above 0, and at most a day, got ${deadline}`);
    }
    if (egress !== undefined && egress !== null && typeof egress !== "function") {
      throw new ArgumentError(`egress: expected a function, got ${typeof egress}`);
    }
    if (outputs !== undefined && !(Array.isArray(outputs) && outputs.every((one) => typeof one === "string"))) {
      throw new ArgumentError("outputs: expected a list of names, got something else");
    }
    const connected = connect(remote);
    const { InferenceSession, Tensor } = ort ?? (await this.engine());
    const name = typeof file === "string" || file instanceof URL ? String(file) : "file";
    let opened = file;
    let found = document && checked(document, name);
    if (typeof file?.run !== "function") {
      let model;
      try {
        const { close, ...bytes } = await this.open(file);
        model = bytes.model;
        try {
          found ??= await documentIn(bytes, name);
        } finally {
          await close?.();
        }
      } catch (error) {
        refuse(error, `${name}: cannot be read`);
      }
      const options = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: SILENT, ...session };
      opened = await InferenceSession.create(model, options).catch((error) =>
        refuse(error, `${name}: onnxruntime cannot load it`),
      );
    }
    if (!found) throw new ArgumentError("document: expected with an open session, got none");
    const options = { remote: connected, deadline, threshold, outputs, egress };
    try {
      return new this(opened, found, Tensor, options);
    } catch (error) {
      if (opened !== file) await opened.release();
      throw error;
    }
  }

  /** Return the bytes of a file that is given as an address or as bytes. */
  static async open(file) {
    let bytes = file;
    if (typeof file === "string" || file instanceof URL) {
      const response = await fetch(file);
      if (!response.ok) throw new ModelFileError(`${file}: the server replied with status ${response.status}`);
      bytes = await response.arrayBuffer();
    }
    const model = bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : bytes;
    if (!(model instanceof Uint8Array))
      throw new ArgumentError("file: expected a path, an address, bytes or a session");
    return { model, size: model.length, read: (at, length) => model.subarray(at, at + length) };
  }

  /** Forward inputs whose advantage is below this. */
  get threshold() {
    return this.#threshold;
  }

  set threshold(threshold) {
    if (typeof threshold !== "number" || Number.isNaN(threshold)) {
      throw new ArgumentError(`threshold: expected a number, got ${threshold}`);
    }
    this.#threshold = Math.fround(threshold); // advantages are float32 numbers
  }

  #threshold;

  get labels() {
    return this.document.labels ?? [];
  }

  async predict(x, { original } = {}) {
    const started = performance.now();
    const feeds = this.#inputs.one(x);
    const sent = (original ?? null) === null ? feeds : tensors(original, false);
    const decision =
      this.#inputs.batch > 1 ? (await this.#decide(feeds, 1))[0] : this.#decision(await this.#run(feeds), 0, 1);
    if (!decision.forward) return this.#local(decision, started);
    const [outcome] = await this.#forward(sent, 1, started);
    return this.#answer(decision, outcome, started);
  }

  async predictBatch(x, { originals } = {}) {
    const started = performance.now();
    const [feeds, n] = this.#inputs.many(x);
    const sent = (originals ?? null) === null ? feeds : tensors(originals, true);
    if (Object.values(sent).some(({ dims }) => dims[0] !== n))
      throw new InputError(`originals: expected ${n}, got others`);
    const decisions = await this.#decide(feeds, n);
    const forwarded = [...decisions.keys()].filter((i) => decisions[i].forward);
    const parts = Array.from({ length: Math.ceil(forwarded.length / REQUEST) }, (_, k) =>
      forwarded.slice(k * REQUEST, (k + 1) * REQUEST),
    );
    const outcomes = await Promise.all(parts.map((part) => this.#forward(rows(sent, part), part.length, started)));
    const byInput = new Map(parts.flatMap((part, k) => part.map((i, at) => [i, outcomes[k][at]])));
    return decisions.map((one, i) =>
      byInput.has(i) ? this.#answer(one, byInput.get(i), started) : this.#local(one, started),
    );
  }

  async decide(x) {
    const [feeds, n] = this.#inputs.many(x);
    const decisions = await this.#decide(feeds, n);
    const data = new Float32Array(n * this.labels.length);
    decisions.forEach(({ local }, i) => data.set(local.probabilities, i * this.labels.length));
    return {
      label: Int32Array.from(decisions, ({ local }) => local.label),
      confidence: Float32Array.from(decisions, ({ local }) => local.confidence),
      advantage: Float32Array.from(decisions, ({ advantage }) => advantage),
      forward: Uint8Array.from(decisions, ({ forward }) => Number(forward)),
      probabilities: { type: "float32", data, dims: [n, this.labels.length] },
    };
  }

  async close() {
    this.#closing ??= this.#end();
    await this.#closing;
  }

  async #end() {
    try {
      await this.#remote?.close?.();
    } finally {
      while (this.#waiting) await this.#running?.catch(() => {});
      await this.#session.release();
    }
  }

  /** Run the session after the runs before it: onnxruntime-web takes one at a time. */
  async #run(feeds) {
    if (this.#closing) throw new EdgecascadeError("cascade: it was closed");
    this.#waiting++;
    while (this.#running) await this.#running.catch(() => {});
    this.#running = this.#session.run(feeds, this.#names);
    let results;
    try {
      results = await this.#running;
    } catch (error) {
      throw new InputError(`x: onnxruntime cannot run the file with it: ${firstLine(error)}`);
    } finally {
      this.#running = undefined;
      this.#waiting--;
    }
    if (!(this.#names.at(-1) in results)) {
      throw new ArgumentError("ort: expected onnxruntime 1.24 or newer, got one that mistakes the names of outputs");
    }
    return results;
  }

  async #decide(feeds, n) {
    const size = this.#together ? (this.#inputs.batch ?? n) : 1;
    const decisions = [];
    for (let at = 0; at < n; at += size) {
      const places = Array.from({ length: size }, (_, k) => Math.min(at + k, n - 1));
      const results = await this.#run(size === n ? feeds : this.#inputs.many(rows(feeds, places))[0]);
      for (let i = 0; i < size && at + i < n; i++) decisions.push(this.#decision(results, i, size));
    }
    return decisions;
  }

  /** Return the local prediction of one of n inputs, its advantage, and whether to forward it. */
  #decision(results, i, n) {
    let label = -1;
    let probabilities = NONE;
    if (results.label) {
      const { data } = results.probabilities;
      if (data.length !== n * this.labels.length) {
        throw new ModelFileError(`file: expected probabilities of ${this.labels.length} classes, got others`);
      }
      label = Number(results.label.data[i]);
      probabilities = n === 1 ? data : data.subarray((i * data.length) / n, ((i + 1) * data.length) / n);
    }
    const confidence = results.confidence ? results.confidence.data[i] : probabilities[label];
    const unknown = Number.isNaN(confidence);
    const advantage = unknown ? Number.NaN : results.advantage.data[i];
    const local = { label, confidence, probabilities, outputs: {} };
    for (const [name, there] of this.#outputs) {
      const batched = !this.document.task?.unbatched?.includes(there);
      const { type, data, dims } = results[there];
      local.outputs[name] = batched ? row(results[there], i) : { type, data, dims };
    }
    return { local, advantage, forward: unknown || advantage < this.#threshold };
  }

  /** Return a prediction, or a reason and a detail, for each of n inputs that are to be forwarded; by the deadline. */
  async #forward(inputs, n, started) {
    if (!this.#remote) return Array(n).fill(NO_REMOTE);
    if (!this.#egress) return this.#ask(inputs, n, started);
    const outcomes = Array(n).fill(NOT_ALLOWED);
    const allowed = [...outcomes.keys()].filter((i) => permits(this.#egress, rows(inputs, [i])));
    const asked = allowed.length ? await this.#ask(rows(inputs, allowed), allowed.length, started) : [];
    asked.forEach((outcome, k) => (outcomes[allowed[k]] = outcome));
    return outcomes;
  }

  async #ask(inputs, n, started) {
    const left = 1000 * this.#deadline - (performance.now() - started);
    if (left <= 0) return Array(n).fill(TOO_LATE);
    const controller = new AbortController();
    let timer;
    const late = new Promise((resolve) => {
      timer = setTimeout(() => {
        resolve(Array(n).fill(TOO_LATE));
        controller.abort();
      }, left);
    });
    const reply = this.#replied(inputs, n, controller.signal).catch((error) => {
      const reason = error instanceof RemoteUnreachable ? "offline" : "remote error";
      return Array(n).fill({ reason, detail: firstLine(error) });
    });
    try {
      return await Promise.race([reply, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #replied(inputs, n, signal) {
    const { document } = this;
    if (document.format === 2) {
      const { outputs: names } = document.remote;
      const found = await this.#remote.infer(inputs, { signal, names });
      return Array.from({ length: n }, (_, i) => taskPrediction(found, i, n, names));
    }
    const scores = await this.#remote.infer(inputs, { signal });
    const columns = columnsFor(document.labels, this.#remote.classNames ?? [], document.remote.columns);
    return calibrated(scores, n, document, columns).map(settled);
  }

  #local(decision, started) {
    return this.#full(decision, decision.local, "local", "confident", null, "", started);
  }

  #answer(decision, outcome, started) {
    if (outcome.reason)
      return this.#full(decision, decision.local, "local", outcome.reason, null, outcome.detail, started);
    const { merge: rule, costs } = this.document.policy;
    const [final, source] = merge(rule, decision.local, outcome, costs);
    const reason = Number.isNaN(decision.local.confidence) ? "not a number" : "offloaded";
    return this.#full(decision, final, source, reason, outcome, "", started);
  }

  #full({ local, advantage }, final, source, reason, remote, detail, started) {
    const { label, confidence, outputs } = final;
    const elapsed = (performance.now() - started) / 1000;
    const name = label < 0 ? "" : this.document.labels[label];
    return { label, name, confidence, source, reason, advantage, local, remote, detail, elapsed, outputs };
  }
}

function connect(remote) {
  if (remote === undefined || remote === null) return undefined;
  if (typeof remote === "string" || remote instanceof URL) return new OpenInference(remote);
  if (typeof remote === "function") return { infer: remote };
  if (typeof remote.infer === "function") return remote;
  throw new ArgumentError("remote: expected an address, a function, or an object with `infer`, got neither");
}

/** Throw what stands for an error about the file. */
function refuse(error, what) {
  throw error instanceof EdgecascadeError ? error : new ModelFileError(`${what}: ${firstLine(error)}`);
}

function firstLine(error) {
  return String(error?.message ?? error).split("\n", 1)[0];
}

function permits(egress, input) {
  try {
    const said = egress(input);
    if (said instanceof Promise) said.catch(() => {}); // a promise refuses, whatever it becomes
    return said === true;
  } catch {
    return false;
  }
}

/** Return what the application sends in place of the input: tensors with a batch axis, by name. */
function tensors(original, batched) {
  if (typeof original === "string") return { original: { type: "string", data: [original], dims: [1] } };
  if (batched && Array.isArray(original)) {
    return { original: { type: "string", data: original, dims: [original.length] } };
  }
  const named = original?.dims ? { original } : original;
  const entries = Object.entries(named ?? {}).map(([name, one]) => {
    const { type, data, dims } = one ?? {};
    if (!fits({ data, dims })) throw new InputError("original: expected a text, or objects with type, data and dims");
    return [name, { type, data, dims: batched ? dims : [1, ...dims] }];
  });
  if (!entries.length || Array.isArray(original)) throw new InputError("original: expected a text or tensors, got neither");
  return Object.fromEntries(entries);
}

function row({ type, data, dims }, i) {
  const size = data.length / dims[0];
  return { type, data: data.slice(i * size, (i + 1) * size), dims: dims.slice(1) };
}

function settled(prediction) {
  return prediction instanceof Error ? { reason: "remote error", detail: prediction.message } : prediction;
}

/** Return the remote's answer to one of n inputs of a general task. */
function taskPrediction(found, i, n, names) {
  const outputs = {};
  for (const name of names.length ? names : Object.keys(found)) {
    const tensor = found[name];
    if (!tensor)
      throw new InvalidReply(`remote: expected the outputs ${names.join(", ")}, got ${Object.keys(found).join(", ")}`);
    if (!fits(tensor) || !areValues(tensor.data)) {
      throw new InvalidReply(`remote: expected as many values in the output ${name} as its dims say, got others`);
    }
    if (tensor.batched !== false && tensor.dims[0] !== n) {
      throw new InvalidReply(`remote: expected ${n} rows in the output ${name}, got [${tensor.dims.join(", ")}]`);
    }
    outputs[name] = tensor.batched === false ? tensor : row(tensor, i);
    const { data } = outputs[name];
    if (data.length && typeof data[0] === "number" && data.every(Number.isNaN)) {
      return { reason: "remote error", detail: `remote: expected numbers in the output ${name}, got only NaN` };
    }
  }
  return { label: -1, confidence: Number.NaN, probabilities: NONE, outputs };
}

/** Return whether all data are of one kind that a tensor can have. */
function areValues(data) {
  const kind = typeof data[0];
  const known = ["number", "bigint", "boolean", "string"].includes(kind);
  return ArrayBuffer.isView(data) || data.every((one) => known && typeof one === kind);
}
