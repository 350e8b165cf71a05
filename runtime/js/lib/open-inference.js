// A remote that speaks the Open Inference Protocol v2 over REST: Triton, KServe, MLServer, `edgecascade serve`.

import { classNamesIn } from "./class-names.js";
import { ArgumentError, InvalidReply, RemoteRefusal, RemoteUnreachable } from "./errors.js";

const TYPES = {
  float32: "FP32",
  float64: "FP64",
  float16: "FP16",
  string: "BYTES",
  bool: "BOOL",
  int8: "INT8",
  int16: "INT16",
  int32: "INT32",
  int64: "INT64",
  uint8: "UINT8",
  uint16: "UINT16",
  uint32: "UINT32",
  uint64: "UINT64",
};
const ARRAYS = {
  FP32: Float32Array,
  FP64: Float64Array,
  BOOL: Uint8Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
};
const HEADER_LENGTH = "Inference-Header-Content-Length";
const REFUSALS = [400, 415, 422, 500, 501]; // of a body in a form that the server cannot read
const SPARE = 1 << 20; // bytes of a reply, ...
const MOST = 1 << 21; // ... and for each input
const LARGEST = 1 << 26; // bytes of any reply
const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();

export class OpenInference {
  #path;
  #name;
  #options;
  #signature;
  #binary;

  constructor(url, { headers = {}, input, output, binary } = {}) {
    let parsed;
    try {
      parsed = new URL(url, globalThis.location?.href);
    } catch {
      parsed = { pathname: "" };
    }
    const match = /\/v2\/models\/([^/]+)(?:\/versions\/[^/]+)?\/?$/.exec(parsed.pathname);
    if (!match || !/^https?:$/.test(parsed.protocol) || parsed.username || parsed.password) {
      throw new ArgumentError(
        "remote: expected http[s]://host[:port]/v2/models/NAME without a user, got another address",
      );
    }
    try {
      this.#name = decodeURIComponent(match[1]);
    } catch {
      throw new ArgumentError("remote: expected a name that percent-encodes UTF-8, got another");
    }
    this.#path = (end) => `${parsed.origin}${parsed.pathname.replace(/\/$/, "")}${end}${parsed.search}`;
    this.#options = { headers, input, output };
    this.#binary = binary; // undefined until the server has shown it
  }

  /** Names of the server's classes in the order of its scores; empty until it was asked, and if it tells none. */
  classNames = [];

  /** Return scores, or the outputs in `names`, as {data, dims} by name, of tensors [n, ...]. */
  async infer(inputs, { signal, names } = {}) {
    try {
      const signature = (this.#signature ??= await this.#ask(signal));
      return await this.#infer(signature, inputs, names, signal);
    } catch (error) {
      if (!signal?.aborted) this.#signature = undefined; // the server may have been replaced
      throw error;
    }
  }

  async #ask(signal) {
    const { input, output } = this.#options;
    const response = await this.#fetch("", { signal });
    if (input && [404, 405, 501].includes(response.status)) return { inputs: [{ name: input }], output };
    const declared = json(await body(response, 1 << 22));
    const { inputs, outputs } = declared;
    if (!Array.isArray(inputs) || !Array.isArray(outputs)) throw new InvalidReply("remote: its metadata is malformed");
    this.classNames = classNamesIn(declared);
    const chosen = input ? inputs.filter((one) => one.name === input) : inputs;
    return { inputs: chosen.length ? chosen : [{ name: input }], output: output ?? logitsAmong(outputs), outputs };
  }

  async #infer({ output, inputs: declared, outputs: described }, inputs, names, signal) {
    const tensors = Object.entries(inputs).map(([name, tensor], _, all) =>
      sent(
        declared.find((one) => one.name === name) ??
          (all.length === 1 && declared.length === 1 ? declared[0] : { name }),
        tensor,
      ),
    );
    const wanted = names ?? (output ? [output] : []);
    const batch = declared[0]?.shape?.[0];
    const n = tensors[0].shape[0];
    const most = batch > 0 && batch <= 64 ? batch : n;
    const replies = [];
    for (let at = 0; at < n; at += most) {
      const part = tensors.map((tensor) => (most === n ? tensor : slice(tensor, at, most)));
      replies.push(await this.#post(part, wanted, signal));
    }
    const found = joined(replies, n, most);
    if (names) {
      const singly = n === 1 && declared.every((one) => one.shape?.[0] === 1);
      for (const { name, shape } of described ?? []) {
        if (singly && found[name] && shape?.length && shape[0] !== 1) found[name].batched = false;
      }
      return found;
    }
    const name = output ?? logitsAmong(replies[0].map(({ name, datatype, shape }) => ({ name, datatype, shape })));
    if (found[name] === undefined)
      throw new InvalidReply("remote: expected one output with logits; name it with `output`");
    return found[name];
  }

  async #post(tensors, wanted, signal) {
    let response = await this.#send(tensors, wanted, this.#binary ?? true, signal);
    if (REFUSALS.includes(response.status) && this.#binary === undefined) {
      response = await this.#send(tensors, wanted, false, signal);
      if (response.ok) this.#binary = false;
    } else if (response.ok) this.#binary ??= true;
    const bytes = await body(response, Math.min(SPARE + tensors[0].shape[0] * MOST, LARGEST));
    return outputs(bytes, this.#name);
  }

  #send(tensors, wanted, binary, signal) {
    const parameters = { binary_data: binary };
    const request = { inputs: tensors.map(({ data, ...fields }) => fields) };
    if (wanted.length) request.outputs = wanted.map((name) => ({ name, parameters }));
    if (!binary) {
      request.inputs = tensors.map((tensor) => ({ ...tensor, data: plain(tensor) }));
      return this.#fetch("/infer", { method: "POST", body: JSON.stringify(request), signal });
    }
    const raw = tensors.map(contents);
    request.inputs.forEach((one, k) => (one.parameters = { binary_data_size: raw[k].byteLength }));
    const head = ENCODER.encode(JSON.stringify(request));
    const headers = { [HEADER_LENGTH]: String(head.length), "Content-Type": "application/octet-stream" };
    return this.#fetch("/infer", { method: "POST", body: new Blob([head, ...raw]), headers, signal });
  }

  async #fetch(end, { headers, ...options }) {
    const all = { "Content-Type": "application/json", ...this.#options.headers, ...headers };
    try {
      return await fetch(this.#path(end), {
        ...options,
        headers: all,
        redirect: "manual",
        credentials: "omit",
        cache: "no-store",
      });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new RemoteUnreachable(`remote: no connection could be made (${error.cause?.code ?? error.name})`);
    }
  }
}

/** Return a tensor in the type and with the sides that the server declares, if the type can hold it. */
function sent({ name, datatype, shape: sides }, { type, data, dims }) {
  const numbers = type === "float16" && data instanceof Uint16Array ? Array.from(data, half) : data;
  const known = datatype in ARRAYS || datatype === "FP16";
  const added = sides?.length === dims.length + 1 && sides.at(-1) === 1; // servers that batch declare one value as [n, 1]
  return {
    name,
    datatype: known ? datatype : TYPES[type],
    shape: added ? [...dims, 1] : Array.from(dims),
    data: !known || datatype === TYPES[type] ? numbers : cast(name, numbers, type, datatype),
  };
}

function cast(name, data, type, datatype) {
  if (type === "string") throw new InvalidReply(`remote: its input ${name} is ${datatype}, which text cannot become`);
  const Kind = ARRAYS[datatype] ?? Float32Array; // half numbers become bytes when they are sent
  const big = datatype.endsWith("INT64");
  const values = Kind.from(data, big ? (one) => BigInt(one) : Number);
  const exact = !datatype.startsWith("FP");
  for (let k = 0; k < values.length; k++) {
    const kept = exact
      ? Number(values[k]) === Number(data[k])
      : Number.isFinite(values[k]) || !Number.isFinite(data[k]);
    if (!kept) throw new InvalidReply(`remote: its input ${name} is ${datatype}, which cannot hold ${data[k]}`);
  }
  return values;
}

/** Return `most` rows of a tensor from a place on; the last row fills up what is missing. */
function slice(tensor, at, most) {
  const [n, ...rest] = tensor.shape;
  const size = rest.reduce((one, other) => one * other, 1);
  const data = tensor.data.slice(at * size, (at + most) * size);
  if (at + most <= n) return { ...tensor, data, shape: [most, ...rest] };
  const last = tensor.data.slice((n - 1) * size);
  const filled = Array.isArray(data) ? [] : new data.constructor(most * size);
  for (let k = 0; k < most * size; k++) filled[k] = k < data.length ? data[k] : last[k % size];
  return { ...tensor, data: filled, shape: [most, ...rest] };
}

/** Return the outputs of replies to `most` rows each, without the rows that fill up the last one. */
function joined(replies, n, most) {
  const found = {};
  for (const { name, datatype, shape } of replies[0]) {
    const parts = replies.map((reply) => reply.find((one) => one.name === name));
    if (most === n) {
      found[name] = { type: datatype, data: parts[0].data, dims: shape };
      continue;
    }
    const sides = String([most, ...shape.slice(1)]);
    if (parts.some((part) => String(part?.shape) !== sides)) {
      throw new InvalidReply(`remote: expected the output ${name} with the sides [${sides}], got others`);
    }
    const data = parts.flatMap((part) => Array.from(part.data));
    const size = shape.slice(1).reduce((one, other) => one * other, 1);
    found[name] = { type: datatype, data: data.slice(0, n * size), dims: [n, ...shape.slice(1)] };
  }
  return found;
}

/** Return the values of a tensor for JSON. */
function plain({ data, datatype }) {
  const kind = { BOOL: Boolean, BYTES: String }[datatype] ?? Number;
  return Array.from(data, (one) => kind(one));
}

/** Return the values of a tensor as bytes: numbers little-endian, text as its length and UTF-8. */
function contents({ name, data, datatype }) {
  if (datatype === "FP16") return Uint16Array.from(data, (value) => halfBits(Number(value), name));
  if (datatype !== "BYTES") return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const texts = Array.from(data, (one) => ENCODER.encode(one));
  const bytes = new Uint8Array(texts.reduce((sum, one) => sum + 4 + one.length, 0));
  let at = 0;
  for (const one of texts) {
    new DataView(bytes.buffer).setUint32(at, one.length, true);
    bytes.set(one, at + 4);
    at += 4 + one.length;
  }
  return bytes;
}

/** Return the body of a response of at most so many bytes. */
async function body(response, most) {
  if (!response.ok || !response.body)
    throw new RemoteRefusal(`remote: the server replied with status ${response.status}`, response.status);
  const parts = [];
  let size = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > most) {
      await reader.cancel();
      throw new InvalidReply(`remote: expected a reply of at most ${most} bytes, got more`);
    }
    parts.push(value);
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Return the outputs in a reply: JSON, after which the data of binary outputs follow. */
function outputs(bytes, model) {
  let at = jsonLength(bytes);
  const reply = json(bytes.subarray(0, at));
  if (!Array.isArray(reply.outputs)) throw new InvalidReply("remote: the response has no list of outputs");
  if (reply.model_name && reply.model_name !== model) throw new InvalidReply("remote: the reply is from another model");
  const found = reply.outputs.map((output) => {
    const { name, datatype, shape, data, parameters } = output ?? {};
    const size = parameters?.binary_data_size;
    if (size !== undefined && !(Number.isInteger(size) && size >= 0 && at + size <= bytes.length)) {
      throw new InvalidReply(`remote: expected ${size} bytes of an output, got ${bytes.length - at}`);
    }
    const values = size === undefined ? listed(data, datatype) : fromBytes(bytes.slice(at, (at += size)), datatype);
    if (!Array.isArray(shape) || values.length !== shape.reduce((one, other) => one * other, 1)) {
      throw new InvalidReply(`remote: the data of an output do not have its shape [${shape}]`);
    }
    return { name, datatype, shape, data: values };
  });
  if (/\S/.test(DECODER.decode(bytes.subarray(at)))) {
    throw new InvalidReply(`remote: expected a reply that ends with its outputs, got ${bytes.length - at} more bytes`);
  }
  return found;
}

/** Return how many bytes the JSON object at the beginning takes; CORS may hide the header that says it. */
function jsonLength(bytes) {
  let depth = 0;
  for (let at = 0, text = false; at < bytes.length; at++) {
    const byte = bytes[at];
    if (text) {
      if (byte === 92)
        at++; // an escaped character
      else if (byte === 34) text = false;
    } else if (byte === 34) text = true;
    else if (byte === 123) depth++;
    else if (byte === 125 && --depth === 0) return at + 1;
  }
  return bytes.length;
}

function json(bytes) {
  try {
    return JSON.parse(DECODER.decode(bytes)) ?? {};
  } catch {
    throw new InvalidReply("remote: the response is malformed: it is not JSON");
  }
}

function listed(data, datatype) {
  const values = Array.isArray(data) ? data.flat(Infinity) : [];
  const kind = { BYTES: "string", BOOL: "boolean" }[datatype] ?? "number";
  if (!values.every((one) => typeof one === kind || (one === null && kind === "number"))) {
    throw new InvalidReply(`remote: the data of an output are not ${datatype}`);
  }
  return values.map((one) => one ?? Number.NaN);
}

function fromBytes(bytes, datatype) {
  const Kind = ARRAYS[datatype];
  if (Kind && bytes.length % Kind.BYTES_PER_ELEMENT === 0)
    return new Kind(bytes.buffer, 0, bytes.length / Kind.BYTES_PER_ELEMENT);
  if (datatype === "FP16") return Array.from(new Uint16Array(bytes.buffer), half);
  if (datatype !== "BYTES") throw new InvalidReply(`remote: expected an output of numbers, got ${datatype}`);
  const texts = [];
  for (let at = 0; at + 4 <= bytes.length;) {
    const size = new DataView(bytes.buffer).getUint32(at, true);
    texts.push(DECODER.decode(bytes.subarray(at + 4, at + 4 + size)));
    at += 4 + size;
  }
  return texts;
}

/** Return the number that is stored as these 16 bits. */
function half(bits) {
  const fraction = bits & 1023;
  const exponent = (bits >> 10) & 31;
  const size =
    exponent === 31
      ? fraction
        ? Number.NaN
        : Infinity
      : exponent
        ? (1 + fraction / 1024) * 2 ** (exponent - 15)
        : fraction * 2 ** -24;
  return bits >> 15 ? -size : size;
}

/** Return the 16 bits of the nearest half number. */
function halfBits(value, name) {
  const size = Math.abs(value);
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  if (Number.isNaN(value)) return 0x7e00;
  if (size === Infinity) return sign | 0x7c00;
  const exponent = Math.max(Math.floor(Math.log2(size || 2 ** -24)), -14);
  const steps = even(size * 2 ** (10 - exponent)); // from 1024 to 2048, or below 1024 if it is subnormal
  const bits = steps + 1024 * (exponent + 14);
  if (bits >= 0x7c00) throw new InvalidReply(`remote: its input ${name} is FP16, which cannot hold ${value}`);
  return sign | bits;
}

/** Return the nearest whole number; the even one of two. */
function even(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return below + (rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? 1 : 0);
}

function logitsAmong(outputs) {
  if (outputs.some((one) => one.name === "logits")) return "logits";
  let tables = outputs.filter(({ datatype, shape }) => datatype?.startsWith("FP") && shape?.length === 2);
  if (tables.length > 1) tables = tables.filter(({ shape }) => shape[1] !== 1);
  return tables.length === 1 ? tables[0].name : undefined;
}
